-- Sessions that live, newest first, below a given one.
select
    s.session_id, s.worker, s.queues, s.slots,
    (select count(*) from atlasqueue.leased l where l.session_id = s.session_id) as leased,
    s.epoch, s.streaming, s.server_id, s.opened_at, s.expires_at,
    extract(epoch from s.expires_at - clock_timestamp())::double precision as time_left_s
from atlasqueue.sessions s
where not s.lost and s.session_id < %(before)s
order by s.session_id desc
limit %(most)s

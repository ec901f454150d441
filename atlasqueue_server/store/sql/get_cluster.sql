-- Servers seen in the last seconds, with the leader's row.
select
    s.server_id, s.address, s.version, s.started_at, s.seen_at, l.holder, l.term,
    extract(epoch from l.expires_at - clock_timestamp())::double precision as leader_time_left_s
from (select 1) as always
left join atlasqueue.servers s on s.seen_at > clock_timestamp() - %(seen_within_s)s * interval '1 s'
left join atlasqueue.leader l on true
order by s.server_id

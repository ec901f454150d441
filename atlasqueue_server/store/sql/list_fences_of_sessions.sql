-- What some sessions hold.
select l.session_id, l.fence
from unnest(%(session_ids)s::bigint[]) as u (session_id),
lateral (
    select l.session_id, l.fence from atlasqueue.leased l where l.session_id = u.session_id
) l

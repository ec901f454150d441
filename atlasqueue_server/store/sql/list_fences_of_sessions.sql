-- What some sessions hold above their floors.
select l.session_id, l.fence
from unnest(%(session_ids)s::bigint[], %(fence_floors)s::bigint[]) as u (session_id, fence_floor),
lateral (
    select l.session_id, l.fence from atlasqueue.leased l
    where l.session_id = u.session_id and l.fence > u.fence_floor
) l

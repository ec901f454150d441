-- The leases of some sessions whose cancel was requested.
select l.session_id, l.queue, l.job_id::text, l.fence
from unnest(%(session_ids)s::bigint[]) as u (session_id),
lateral (
    select l.session_id, l.queue, l.job_id, l.fence from atlasqueue.leased l
    where l.session_id = u.session_id and l.cancel_requested
) l

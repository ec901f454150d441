-- Of the jobs that a worker holds: those no longer leased under that fence (lost), and those whose
-- cancel was requested.
select u.job_id::text, u.fence, l.fence is null as lost
from unnest(%(job_ids)s::uuid[], %(fences)s::bigint[]) as u (job_id, fence)
left join lateral (
    select l.fence, l.cancel_requested from atlasqueue.leased l
    where l.queue = %(queue)s and l.job_id = u.job_id and l.fence = u.fence
        and l.session_id = %(session_id)s limit 1
) l on true
where l.fence is null or l.cancel_requested

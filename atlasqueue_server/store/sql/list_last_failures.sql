-- The last failure of each of some jobs of one queue.
select f.job_id::text, f.fence, f.attempt, f.cause, f.error_type, f.error_message, f.error_stack, f.failed_at
from unnest(%(job_ids)s::uuid[]) as u (job_id),
lateral (
    select * from atlasqueue.failures f
    where f.queue = %(queue)s and f.job_id = u.job_id
    order by f.fence desc limit 1
) f

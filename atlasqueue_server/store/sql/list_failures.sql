-- The newest failures of one job, newest first.
select fence, attempt, cause, error_type, error_message, error_stack, failed_at
from atlasqueue.failures
where queue = %(queue)s and job_id = %(job_id)s::uuid
order by fence desc
limit %(most)s

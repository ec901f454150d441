-- How many of some ids are dead letters of a queue.
select count(*)
from unnest(%(job_ids)s::uuid[]) as u (job_id),
lateral (
    select from atlasqueue.dead_letters x where x.queue = %(queue)s and x.job_id = u.job_id limit 1
) x

-- The ids of a queue's dead letters that fit a filter, by id, after a given one.
select x.job_id::text
from atlasqueue.dead_letters x
where x.queue = %(queue)s and x.job_id > %(after)s::uuid
    and (%(reason)s::"char" is null or x.reason = %(reason)s::"char")
    and (%(died_before)s::timestamptz is null or x.died_at < %(died_before)s)
    and (
        %(kind)s::text is null
        -- A scalar subquery, which is looked up for each row: EXISTS was hashed, over all bodies of the queue.
        or (
            select j.kind from atlasqueue.jobs j
            where j.queue = %(queue)s and j.job_id = x.job_id limit 1
        ) = %(kind)s
    )
order by x.queue, x.job_id
limit %(most)s

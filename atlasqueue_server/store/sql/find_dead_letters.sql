-- The ids of a queue's dead letters that fit a filter, by id, after a given one.
select x.job_id::text
from atlasqueue.dead_letters x
where x.queue = %(queue)s and x.job_id > %(after)s::uuid
    and (%(reason)s::"char" is null or x.reason = %(reason)s::"char")
    and (%(died_before)s::timestamptz is null or x.died_at < %(died_before)s)
    and (
        %(kind)s::text is null
        or exists (
            select from atlasqueue.jobs j
            where j.queue = %(queue)s and j.job_id = x.job_id and j.kind = %(kind)s
        )
    )
order by x.queue, x.job_id
limit %(most)s

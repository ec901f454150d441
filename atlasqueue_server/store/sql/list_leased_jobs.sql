-- The ids of a queue's leased jobs, by id, after a given one, and whether each fits the filters.
with examined as materialized (
    select t.job_id
    from atlasqueue.leased t
    where t.queue = %(queue)s and t.job_id > %(after)s::uuid
    order by t.queue, t.job_id
    limit %(examined)s
)
select
    t.job_id::text,
    (%(kind)s::text is null or j.kind = %(kind)s)
    and (%(created_after)s::timestamptz is null or j.created_at >= %(created_after)s)
    and (%(created_before)s::timestamptz is null or j.created_at < %(created_before)s)
from examined t,
lateral (
    select * from atlasqueue.jobs j where j.queue = %(queue)s and j.job_id = t.job_id limit 1
) j
order by t.job_id

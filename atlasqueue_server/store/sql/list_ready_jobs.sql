-- The ids of a queue's ready jobs in dispatch order, after a given place, and whether each fits the
-- filters.
with examined as materialized (
    select t.job_id, t.priority, t.seq
    from atlasqueue.ready t
    where t.queue = %(queue)s and (t.priority, t.seq) > (%(after_priority)s::smallint, %(after_seq)s::bigint)
    order by t.queue, t.priority, t.seq
    limit %(examined)s
)
select
    t.job_id::text,
    (%(kind)s::text is null or j.kind = %(kind)s)
    and (%(created_after)s::timestamptz is null or j.created_at >= %(created_after)s)
    and (%(created_before)s::timestamptz is null or j.created_at < %(created_before)s),
    t.priority, t.seq
from examined t,
lateral (
    select * from atlasqueue.jobs j where j.queue = %(queue)s and j.job_id = t.job_id limit 1
) j
order by t.priority, t.seq

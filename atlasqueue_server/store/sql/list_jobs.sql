-- The ids of a queue's jobs in any state, by id, after a given one. examined bounds the work of a page
-- whose filters fit few jobs: the last id looked at comes back with every row, matched or not.
with examined as materialized (
    select j.job_id, j.kind, j.created_at
    from atlasqueue.jobs j
    where j.queue = %(queue)s and j.job_id > %(after)s::uuid
    order by j.queue, j.job_id
    limit %(examined)s
)
select
    j.job_id::text,
    (%(kind)s::text is null or j.kind = %(kind)s)
    and (%(created_after)s::timestamptz is null or j.created_at >= %(created_after)s)
    and (%(created_before)s::timestamptz is null or j.created_at < %(created_before)s)
from examined j
order by j.job_id

-- BROKEN on purpose (fence): see tests/broken/__init__.py
-- complete: leased → succeeded; wins over a cancel request. Guard: the fence.
-- One row: how many moved; ask classify_reports for the others, in a new statement. ORDER BY job_id: two
-- reports lock in one order. LATERAL … LIMIT 1 nails the join order. The delete alone locks: a
-- row in which cancel was requested while it waited moves as such, or stays for the next try.
with reported as materialized (
    select * from unnest(%(job_ids)s::uuid[], %(fences)s::bigint[], %(results)s::bytea[]) as u (job_id, fence, result)
    order by u.job_id
),
held as materialized (
    select k.tid, u.*
    from reported u,
    lateral (
        select l.ctid as tid
        from atlasqueue.leased l
        where l.queue = %(queue)s and l.job_id = u.job_id
        limit 1
    ) k
),
taken as (
    delete from atlasqueue.leased l using held where l.ctid = held.tid
    returning l.*, held.fence as reported, held.result
),
to_finished as (
    insert into atlasqueue.finished (
        queue, job_id, state, fence, attempt, crashes, deliveries, result
    )
    select %(queue)s, job_id, 's', fence, attempt, crashes, deliveries, result from taken
),
delta as (
    insert into atlasqueue.depth_deltas (queue, leased, succeeded)
    select %(queue)s, -count(*), count(*) from taken having count(*) > 0
)
-- Which they are is told only when it is not all of them.
select
    count(*),
    case when count(*) < cardinality(%(fences)s::bigint[]) then array_agg(reported) end
from taken

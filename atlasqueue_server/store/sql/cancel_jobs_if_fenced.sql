-- cancel, as reported by the worker that holds the job: leased → cancelled. Guard: the fence.
-- Rows returned moved; ask classify_reports for the others, in a new statement. The ids come sorted,
-- so that two reports lock in one order. LATERAL … LIMIT 1 nails the join order. The delete alone locks: a
-- row in which cancel was requested while it waited moves as such, or stays for the next try.
with reported as materialized (
    select * from unnest(%(job_ids)s::uuid[], %(fences)s::bigint[]) as u (job_id, fence)
),
held as materialized (
    select k.tid, u.*
    from reported u,
    lateral (
        select l.ctid as tid
        from atlasqueue.leased l
        where l.queue = %(queue)s and l.job_id = u.job_id and l.fence = u.fence
        limit 1
    ) k
),
taken as (
    delete from atlasqueue.leased l using held where l.ctid = held.tid
    returning l.*
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select %(queue)s, job_id, 'c', fence, attempt, crashes, deliveries from taken
),
delta as (
    insert into atlasqueue.depth_deltas (queue, leased, cancelled)
    select %(queue)s, -count(*), count(*) from taken having count(*) > 0
)
select fence, 'cancelled' from taken

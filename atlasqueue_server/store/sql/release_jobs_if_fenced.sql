-- release: leased → ready, no attempt spent; → cancelled when a cancel was requested. Guard: the fence.
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
judged as materialized (
    select t.*, case when t.cancel_requested then 'cancelled' else 'ready' end as state from taken t
),
to_ready as (
    insert into atlasqueue.ready (
        queue, priority, job_id, attempt, crashes, deliveries, fence, cause
    )
    select %(queue)s, priority, job_id, attempt, crashes, deliveries, fence, 'l'
    from judged where state = 'ready'
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select %(queue)s, job_id, 'c', fence, attempt, crashes, deliveries
    from judged where state = 'cancelled'
),
delta as (
    insert into atlasqueue.depth_deltas (queue, leased, ready, cancelled)
    select
        %(queue)s, -count(*),
        count(*) filter (where state = 'ready'),
        count(*) filter (where state = 'cancelled')
    from judged having count(*) > 0
)
select fence, state from judged

-- snooze: leased → scheduled, no attempt spent; → cancelled when a cancel was requested. Guard: the fence.
-- Rows returned moved; ask classify_reports for the others, in a new statement. The ids come sorted,
-- so that two reports lock in one order. LATERAL … LIMIT 1 nails the join order. The delete alone locks: a
-- row in which cancel was requested while it waited moves as such, or stays for the next try.
with reported as materialized (
    select * from unnest(%(job_ids)s::uuid[], %(fences)s::bigint[], %(delays_ms)s::bigint[]) as u (job_id, fence, delay_ms)
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
    returning l.*, held.delay_ms
),
judged as materialized (
    select t.*, case when t.cancel_requested then 'cancelled' else 'scheduled' end as state from taken t
),
to_scheduled as (
    insert into atlasqueue.scheduled (
        queue, job_id, run_at, priority, attempt, crashes, deliveries, fence, cause
    )
    select
        %(queue)s, job_id, now() + delay_ms * interval '1 ms',
        priority, attempt, crashes, deliveries, fence, 's'
    from judged where state = 'scheduled'
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select %(queue)s, job_id, 'c', fence, attempt, crashes, deliveries
    from judged where state = 'cancelled'
),
delta as (
    insert into atlasqueue.depth_deltas (queue, leased, scheduled, cancelled)
    select
        %(queue)s, -count(*),
        count(*) filter (where state = 'scheduled'),
        count(*) filter (where state = 'cancelled')
    from judged having count(*) > 0
)
select fence, state from judged

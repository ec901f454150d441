-- unknown_kind: leased → scheduled for a while, no attempt spent, so that a rolling deploy kills
-- nothing; → dead after too many such deliveries; → cancelled when a cancel was requested.
-- Guard: the fence.
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
    select
        t.*,
        case
            when t.cancel_requested then 'cancelled'
            when u.deliveries_before + 1 >= %(unknown_kind_deliveries)s then 'dead'
            else 'scheduled'
        end as state
    from taken t,
    lateral (
        -- Since the last death: a redrive starts the count again.
        select count(*) as deliveries_before
        from atlasqueue.failures f
        where f.queue = %(queue)s and f.job_id = t.job_id and f.cause = 'k'
            and f.fence > coalesce((
                select max(z.fence) from atlasqueue.failures z
                where z.queue = %(queue)s and z.job_id = t.job_id and z.final
            ), 0)
    ) u
),
to_failures as (
    insert into atlasqueue.failures (
        queue, job_id, fence, attempt, cause, final, error_type, error_message, error_stack
    )
    select %(queue)s, job_id, fence, attempt, 'k', state = 'dead', null, 'no handler for this kind on this worker', null from judged
),
to_scheduled as (
    insert into atlasqueue.scheduled (
        queue, job_id, run_at, priority, attempt, crashes, deliveries, fence, cause
    )
    select
        %(queue)s, job_id, now() + %(delay_s)s * interval '1 s',
        priority, attempt, crashes, deliveries, fence, 'k'
    from judged where state = 'scheduled'
),
to_dead_letters as (
    insert into atlasqueue.dead_letters (
        queue, job_id, reason, priority, attempt, crashes, deliveries, fence
    )
    select %(queue)s, job_id, 'k', priority, attempt, crashes, deliveries, fence
    from judged where state = 'dead'
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select %(queue)s, job_id, 'c', fence, attempt, crashes, deliveries
    from judged where state = 'cancelled'
),
delta as (
    insert into atlasqueue.depth_deltas (queue, leased, scheduled, dead, cancelled)
    select
        %(queue)s, -count(*),
        count(*) filter (where state = 'scheduled'),
        count(*) filter (where state = 'dead'),
        count(*) filter (where state = 'cancelled')
    from judged having count(*) > 0
)
select fence, state from judged

-- reject: leased → dead without another attempt, → cancelled when a cancel was requested.
-- cause and reason: r rejected by the worker, b the body is lost. Guard: the fence.
-- Rows returned moved; ask classify_reports for the others, in a new statement. The ids come sorted,
-- so that two reports lock in one order. LATERAL … LIMIT 1 nails the join order. The delete alone locks: a
-- row in which cancel was requested while it waited moves as such, or stays for the next try.
with reported as materialized (
    select * from unnest(
        %(job_ids)s::uuid[],
        %(fences)s::bigint[],
        %(error_types)s::text[],
        %(error_messages)s::text[],
        %(error_stacks)s::text[]
    ) as u (job_id, fence, error_type, error_message, error_stack)
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
    returning l.*, held.error_type, held.error_message, held.error_stack
),
judged as materialized (
    select t.*, case when t.cancel_requested then 'cancelled' else 'dead' end as state from taken t
),
to_failures as (
    insert into atlasqueue.failures (
        queue, job_id, fence, attempt, cause, final, error_type, error_message, error_stack
    )
    select %(queue)s, job_id, fence, attempt + 1, %(cause)s::"char", state = 'dead', error_type, error_message, error_stack from judged
),
to_dead_letters as (
    insert into atlasqueue.dead_letters (
        queue, job_id, reason, priority, attempt, crashes, deliveries, fence
    )
    select %(queue)s, job_id, %(cause)s::"char", priority, attempt + 1, crashes, deliveries, fence
    from judged where state = 'dead'
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select %(queue)s, job_id, 'c', fence, attempt + 1, crashes, deliveries
    from judged where state = 'cancelled'
),
delta as (
    insert into atlasqueue.depth_deltas (queue, leased, dead, cancelled)
    select
        %(queue)s, -count(*),
        count(*) filter (where state = 'dead'),
        count(*) filter (where state = 'cancelled')
    from judged having count(*) > 0
)
select fence, state from judged

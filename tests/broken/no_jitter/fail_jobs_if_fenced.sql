-- BROKEN on purpose (no_jitter): see tests/broken/__init__.py
-- fail: attempt counted; leased → scheduled with backoff (or after retry_after_ms), → dead when the
-- attempts are spent, → cancelled when a cancel was requested. Guard: the fence.
-- Rows returned moved; ask classify_reports for the others, in a new statement. The ids come sorted,
-- so that two reports lock in one order. LATERAL … LIMIT 1 nails the join order. The delete alone locks: a
-- row in which cancel was requested while it waited moves as such, or stays for the next try.
with reported as materialized (
    select * from unnest(
        %(job_ids)s::uuid[],
        %(fences)s::bigint[],
        %(retry_afters_ms)s::bigint[],
        %(error_types)s::text[],
        %(error_messages)s::text[],
        %(error_stacks)s::text[]
    ) as u (job_id, fence, retry_after_ms, error_type, error_message, error_stack)
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
    returning l.*, held.retry_after_ms, held.error_type, held.error_message, held.error_stack
),
judged as materialized (
    select
        t.*,
        case
            when t.cancel_requested then 'cancelled'
            when t.attempt + 1 >= coalesce(j.max_attempts, q.max_attempts, %(max_attempts)s)
                then 'dead'
            else 'scheduled'
        end as state,
        interval '1 ms' * least(coalesce(j.backoff_cap_ms, q.backoff_cap_ms, %(backoff_cap_ms)s), coalesce(j.backoff_initial_ms, q.backoff_initial_ms, %(backoff_initial_ms)s) * power(coalesce(j.backoff_multiplier, q.backoff_multiplier, %(backoff_multiplier)s), t.attempt + 1 - 1)) as backoff
    from taken t
    left join lateral (
        select j.* from atlasqueue.jobs j
        where j.queue = %(queue)s and j.job_id = t.job_id limit 1
    ) j on true
    left join lateral (
        select q.* from atlasqueue.queues q where q.name = %(queue)s limit 1
    ) q on true
),
to_failures as (
    insert into atlasqueue.failures (
        queue, job_id, fence, attempt, cause, final, error_type, error_message, error_stack
    )
    select
        %(queue)s, job_id, fence, attempt + 1, 'f', state = 'dead',
        error_type, error_message, error_stack
    from judged
),
to_scheduled as (
    insert into atlasqueue.scheduled (
        queue, job_id, run_at, priority, attempt, crashes, deliveries, fence, cause
    )
    select
        %(queue)s, job_id, now() + coalesce(retry_after_ms * interval '1 ms', backoff),
        priority, attempt + 1, crashes, deliveries, fence, 'f'
    from judged where state = 'scheduled'
),
to_dead_letters as (
    insert into atlasqueue.dead_letters (
        queue, job_id, reason, priority, attempt, crashes, deliveries, fence
    )
    select %(queue)s, job_id, 'a', priority, attempt + 1, crashes, deliveries, fence
    from judged where state = 'dead'
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select %(queue)s, job_id, 'c', fence, attempt + 1, crashes, deliveries
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

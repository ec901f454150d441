-- expire, second step: crash counted; the leases of lost sessions → scheduled with backoff, → dead
-- (CRASH_LOOP) at the crash cap, → cancelled when a cancel was requested. Guards: the leader's term,
-- and the session is lost for good. SKIP LOCKED: a report in flight wins, nothing waits.
with locked as materialized (
    select l.tid
    from atlasqueue.sessions s,
    lateral (
        select l.ctid as tid from atlasqueue.leased l
        where l.session_id = s.session_id
        limit %(batch)s for update skip locked
    ) l
    where s.lost
        and exists (
            select from atlasqueue.leader
            where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
            for key share
        )
    limit %(batch)s
),
taken as (
    delete from atlasqueue.leased l using locked where l.ctid = locked.tid returning l.*
),
judged as materialized (
    select
        t.*,
        case
            when t.cancel_requested then 'cancelled'
            when t.crashes + 1 >= %(crash_cap)s then 'dead'
            else 'scheduled'
        end as state,
        atlasqueue.backoff(
            t.crashes + 1,
            coalesce(j.backoff_initial_ms, q.backoff_initial_ms, %(backoff_initial_ms)s),
            coalesce(j.backoff_multiplier, q.backoff_multiplier, %(backoff_multiplier)s),
            coalesce(j.backoff_cap_ms, q.backoff_cap_ms, %(backoff_cap_ms)s)
        ) as backoff
    from taken t
    left join lateral (
        select j.* from atlasqueue.jobs j
        where j.queue = t.queue and j.job_id = t.job_id limit 1
    ) j on true
    left join lateral (
        select q.* from atlasqueue.queues q where q.name = t.queue limit 1
    ) q on true
),
to_failures as (
    insert into atlasqueue.failures (
        queue, job_id, fence, attempt, cause, final, error_type, error_message, error_stack
    )
    select queue, job_id, fence, attempt, 'x', state = 'dead', null, 'lease expired: the worker stopped sending heartbeats', null from judged
),
to_scheduled as (
    insert into atlasqueue.scheduled (
        queue, job_id, run_at, priority, attempt, crashes, deliveries, fence, cause
    )
    select
        queue, job_id, now() + backoff,
        priority, attempt, crashes + 1, deliveries, fence, 'x'
    from judged where state = 'scheduled'
),
to_dead_letters as (
    insert into atlasqueue.dead_letters (
        queue, job_id, reason, priority, attempt, crashes, deliveries, fence
    )
    select queue, job_id, 'c', priority, attempt, crashes + 1, deliveries, fence
    from judged where state = 'dead'
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select queue, job_id, 'c', fence, attempt, crashes + 1, deliveries
    from judged where state = 'cancelled'
),
delta as (
    insert into atlasqueue.depth_deltas (queue, leased, scheduled, dead, cancelled)
    select
        queue, -count(*),
        count(*) filter (where state = 'scheduled'),
        count(*) filter (where state = 'dead'),
        count(*) filter (where state = 'cancelled')
    from judged group by queue
)
select queue, job_id::text, fence, state from judged

-- fail, by the job's own deadline: attempt counted; leased → scheduled with backoff, → dead
-- (DEADLINE) when the attempts are spent, → cancelled when a cancel was requested. Guards: the
-- leader's term; a recent tick (see lose_sessions_if_leader); and the deadline has passed. SKIP LOCKED:
-- a report in flight wins, nothing waits.
with locked as materialized (
    select l.ctid as tid
    from atlasqueue.leased l
    where l.deadline_at < now()
        and exists (
            select from atlasqueue.leader
            where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
                and ticked_at > clock_timestamp() - %(ticked_within_s)s * interval '1 s'
            for key share
        )
    order by l.deadline_at
    limit %(batch)s
    for update skip locked
),
taken as (
    delete from atlasqueue.leased l using locked where l.ctid = locked.tid returning l.*
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
        atlasqueue.backoff(
            t.attempt + 1,
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
    select queue, job_id, fence, attempt + 1, 'd', state = 'dead', null, 'the run passed its deadline', null from judged
),
to_scheduled as (
    insert into atlasqueue.scheduled (
        queue, job_id, run_at, priority, attempt, crashes, deliveries, fence, cause
    )
    select
        queue, job_id, now() + backoff,
        priority, attempt + 1, crashes, deliveries, fence, 'd'
    from judged where state = 'scheduled'
),
to_dead_letters as (
    insert into atlasqueue.dead_letters (
        queue, job_id, reason, priority, attempt, crashes, deliveries, fence
    )
    select queue, job_id, 'd', priority, attempt + 1, crashes, deliveries, fence
    from judged where state = 'dead'
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select queue, job_id, 'c', fence, attempt + 1, crashes, deliveries
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
select queue, job_id::text, session_id, fence, state from judged

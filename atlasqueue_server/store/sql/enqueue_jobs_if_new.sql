-- enqueue: ∅ → ready, or scheduled when run_at is in the future. Guard: the id is new in the queue.
-- One row: how many were new. Fewer than were sent: ask classify_enqueued_jobs, in a new statement,
-- because a conflicting row may be younger than this snapshot.
-- ORDER BY job_id: two batches that share ids in another order would deadlock.
-- Arrays that would hold only nulls may be empty: unnest pads them.
with new_jobs as (
    insert into atlasqueue.jobs (
        queue, job_id, kind, priority, payload, headers, run_at, deadline_ms,
        max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms, ready_seq
    )
    select
        %(queue)s, u.job_id, u.kind, u.priority, u.payload, u.headers::jsonb, u.run_at, u.deadline_ms,
        u.max_attempts, u.backoff_initial_ms, u.backoff_multiplier, u.backoff_cap_ms,
        case
            when u.run_at is null or u.run_at <= now() then nextval('atlasqueue.ready_seq')
        end
    from unnest(
        %(job_ids)s::uuid[], %(kinds)s::text[], %(priorities)s::smallint[], %(payloads)s::bytea[],
        %(headers)s::text[], %(run_ats)s::timestamptz[], %(deadlines_ms)s::integer[],
        %(max_attempts)s::smallint[], %(backoff_initials_ms)s::integer[],
        %(backoff_multipliers)s::double precision[], %(backoff_caps_ms)s::integer[]
    ) as u (
        job_id, kind, priority, payload, headers, run_at, deadline_ms,
        max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms
    )
    order by u.job_id
    on conflict (queue, job_id) do nothing
    returning job_id, priority, run_at, ready_seq
),
to_ready as (
    insert into atlasqueue.ready (
        queue, priority, seq, job_id, attempt, crashes, deliveries, fence, cause
    )
    select %(queue)s, priority, ready_seq, job_id, 0, 0, 0, 0, 'e'
    from new_jobs where ready_seq is not null
),
to_scheduled as (
    insert into atlasqueue.scheduled (
        queue, job_id, run_at, priority, attempt, crashes, deliveries, fence, cause
    )
    select %(queue)s, job_id, run_at, priority, 0, 0, 0, 0, 'e'
    from new_jobs where ready_seq is null
),
delta as (
    insert into atlasqueue.depth_deltas (queue, scheduled, ready)
    select
        %(queue)s,
        count(*) filter (where ready_seq is null),
        count(*) filter (where ready_seq is not null)
    from new_jobs having count(*) > 0
)
select count(*) from new_jobs

-- After enqueue_jobs_if_new stored fewer jobs than were sent: which of them, by position, are stored
-- with the same body (true), which with another (false). No row: its first writer rolled back, or it
-- was pruned meanwhile; enqueue it again. Headers of tracing are no part of the body.
select
    u.at,
    (
        j.kind, j.priority, j.payload, j.run_at, j.deadline_ms,
        j.max_attempts, j.backoff_initial_ms, j.backoff_multiplier, j.backoff_cap_ms
    ) is not distinct from (
        u.kind, u.priority, u.payload, u.run_at, u.deadline_ms,
        u.max_attempts, u.backoff_initial_ms, u.backoff_multiplier, u.backoff_cap_ms
    )
    and coalesce(j.headers, '{}') - array['traceparent', 'tracestate', 'baggage']
        = coalesce(u.headers::jsonb, '{}') - array['traceparent', 'tracestate', 'baggage']
from unnest(
    %(job_ids)s::uuid[], %(kinds)s::text[], %(priorities)s::smallint[], %(payloads)s::bytea[],
    %(headers)s::text[], %(run_ats)s::timestamptz[], %(deadlines_ms)s::integer[],
    %(max_attempts)s::smallint[], %(backoff_initials_ms)s::integer[],
    %(backoff_multipliers)s::double precision[], %(backoff_caps_ms)s::integer[]
) with ordinality as u (
    job_id, kind, priority, payload, headers, run_at, deadline_ms,
    max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms, at
),
lateral (
    select * from atlasqueue.jobs j where j.queue = %(queue)s and j.job_id = u.job_id limit 1
) j

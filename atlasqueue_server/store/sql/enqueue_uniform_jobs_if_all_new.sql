-- enqueue: ∅ → ready, for jobs that differ in id and payload only. Guard: the primary key of jobs. One id that
-- exists and nothing is stored: the statement fails with unique_violation, and enqueue_jobs_if_new is to be asked.
-- ON CONFLICT would look for every id first and confirm every row: a quarter of what the statement costs.
-- ORDER BY job_id: two batches that share ids in another order would deadlock.
with numbered as materialized (
    select u.job_id, u.payload, nextval('atlasqueue.ready_seq') as seq
    from unnest(%(job_ids)s::uuid[], %(payloads)s::bytea[]) as u (job_id, payload)
    order by u.job_id
),
to_jobs as (
    insert into atlasqueue.jobs (
        queue, job_id, kind, priority, payload, headers, deadline_ms,
        max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms, ready_seq
    )
    select
        %(queue)s, job_id, %(kind)s, %(priority)s::smallint, payload, %(headers)s::jsonb,
        %(deadline_ms)s::integer, %(max_attempts)s::smallint, %(backoff_initial_ms)s::integer,
        %(backoff_multiplier)s::double precision, %(backoff_cap_ms)s::integer, seq
    from numbered
),
to_ready as (
    insert into atlasqueue.ready (
        queue, priority, seq, job_id, attempt, crashes, deliveries, fence, cause
    )
    select %(queue)s, %(priority)s::smallint, seq, job_id, 0, 0, 0, 0, 'e'
    from numbered
)
insert into atlasqueue.depth_deltas (queue, ready)
select %(queue)s, count(*) from numbered

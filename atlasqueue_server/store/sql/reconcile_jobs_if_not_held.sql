-- reconcile: leased to the session but not held by it → ready, no attempt spent; → cancelled when a
-- cancel was requested. Guards: not among the held fences, and not above the highest fence that has
-- reached the worker (above, the event may still be on its way, but not for ever: a stream that carries
-- nothing is ended long before arrives_within_s). What is not above the floor was looked at before. Runs
-- in the transaction of extend_session_if_live, whose row lock keeps expire away. Whatever queue a job is of: the
-- session may have been opened again for others since. NOT IN over a subquery is hashed; an array would be walked
-- for each lease.
with locked as materialized (
    select l.ctid as tid
    from atlasqueue.leased l
    where l.session_id = %(session_id)s and l.fence > %(fence_floor)s
        and (
            l.fence <= %(last_fence)s
            or l.leased_at < clock_timestamp() - %(arrives_within_s)s * interval '1 s'
        )
        and l.fence not in (select unnest(%(held_fences)s::bigint[]))
    for update skip locked
),
taken as (
    delete from atlasqueue.leased l using locked where l.ctid = locked.tid returning l.*
),
judged as materialized (
    select t.*, case when t.cancel_requested then 'cancelled' else 'ready' end as state from taken t
),
to_ready as (
    insert into atlasqueue.ready (
        queue, priority, job_id, attempt, crashes, deliveries, fence, cause
    )
    select queue, priority, job_id, attempt, crashes, deliveries, fence, 'c'
    from judged where state = 'ready'
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select queue, job_id, 'c', fence, attempt, crashes, deliveries
    from judged where state = 'cancelled'
),
delta as (
    insert into atlasqueue.depth_deltas (queue, leased, ready, cancelled)
    select
        queue, -count(*),
        count(*) filter (where state = 'ready'),
        count(*) filter (where state = 'cancelled')
    from judged group by queue
)
select queue, job_id::text, state from judged

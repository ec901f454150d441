-- release: what a session's older stream carried above the highest fence that reached the worker → ready,
-- no attempt spent; → cancelled when a cancel was requested. Guard: the fence is above that one. Runs
-- after reopen_session_if_live, whose epoch has fenced the older stream off.
with locked as materialized (
    select l.ctid as tid
    from atlasqueue.leased l
    where l.session_id = %(session_id)s and l.fence > %(last_fence)s
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

-- cancel: scheduled, ready → cancelled; leased → cancel requested. Guard: it is in one of these.
-- No row: the job moved between tables while this waited for a lock; run it again (each time another
-- verb made progress). not_found comes only from the absence of the body.
with first_place as materialized (
    select r.ctid as tid
    from atlasqueue.jobs j,
    lateral (
        select r.ctid from atlasqueue.ready r
        where r.queue = j.queue and r.priority = j.priority and r.seq = j.ready_seq
            and r.job_id = j.job_id
        limit 1
    ) r
    where j.queue = %(queue)s and j.job_id = %(job_id)s::uuid
),
later_place as materialized (
    select r.ctid as tid from atlasqueue.ready r
    where r.queue = %(queue)s and r.job_id = %(job_id)s::uuid and r.cause <> 'e'
),
from_ready as (
    delete from atlasqueue.ready r
    using (select tid from first_place union all select tid from later_place) place
    where r.ctid = place.tid
    returning r.job_id, r.fence, r.attempt, r.crashes, r.deliveries
),
from_scheduled as (
    delete from atlasqueue.scheduled where queue = %(queue)s and job_id = %(job_id)s::uuid
    returning job_id, fence, attempt, crashes, deliveries
),
requested as (
    update atlasqueue.leased set cancel_requested = true
    where queue = %(queue)s and job_id = %(job_id)s::uuid
    returning session_id, fence
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select %(queue)s, job_id, 'c', fence, attempt, crashes, deliveries
    from (select * from from_ready union all select * from from_scheduled) moved
),
delta as (
    insert into atlasqueue.depth_deltas (queue, ready, scheduled, cancelled)
    select %(queue)s, -(select count(*) from from_ready), -(select count(*) from from_scheduled), 1
    where exists (select from from_ready) or exists (select from from_scheduled)
)
select 'cancelled', null::bigint, null::bigint from from_ready
union all select 'cancelled', null, null from from_scheduled
union all select 'requested', session_id, fence from requested
union all
select 'final', null, null from atlasqueue.finished
where queue = %(queue)s and job_id = %(job_id)s::uuid
union all
select 'dead', null, null from atlasqueue.dead_letters
where queue = %(queue)s and job_id = %(job_id)s::uuid
union all
select 'not_found', null, null
where not exists (
    select from atlasqueue.jobs where queue = %(queue)s and job_id = %(job_id)s::uuid
)

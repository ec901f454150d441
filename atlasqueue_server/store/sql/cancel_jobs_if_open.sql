-- cancel of many: scheduled, ready → cancelled; leased → cancel requested. Guard: each stands in a state that
-- was asked for. Rows returned were cancelled or asked for; look for the others again, in a new statement. The
-- ids come sorted; what another verb holds locked is skipped rather than waited for.
with asked as materialized (
    select u.job_id from unnest(%(job_ids)s::uuid[]) as u (job_id)
),
ready_places as materialized (
    select r.tid
    from asked u,
    lateral (
        select j.priority, j.ready_seq from atlasqueue.jobs j
        where j.queue = %(queue)s and j.job_id = u.job_id
        limit 1
    ) j,
    lateral (
        select r.ctid as tid from atlasqueue.ready r
        where r.queue = %(queue)s and r.priority = j.priority and r.seq = j.ready_seq
            and r.job_id = u.job_id and %(ready)s::boolean
        limit 1 for update skip locked
    ) r
    union all
    select r.tid
    from asked u,
    lateral (
        select r.ctid as tid from atlasqueue.ready r
        where r.queue = %(queue)s and r.job_id = u.job_id and r.cause <> 'e' and %(ready)s::boolean
        limit 1 for update skip locked
    ) r
),
from_ready as (
    delete from atlasqueue.ready r using ready_places p where r.ctid = p.tid
    returning r.job_id, r.fence, r.attempt, r.crashes, r.deliveries
),
scheduled_places as materialized (
    select s.tid
    from asked u,
    lateral (
        select s.ctid as tid from atlasqueue.scheduled s
        where s.queue = %(queue)s and s.job_id = u.job_id and %(scheduled)s::boolean
        limit 1 for update skip locked
    ) s
),
from_scheduled as (
    delete from atlasqueue.scheduled s using scheduled_places p where s.ctid = p.tid
    returning s.job_id, s.fence, s.attempt, s.crashes, s.deliveries
),
leased_places as materialized (
    select l.tid
    from asked u,
    lateral (
        select l.ctid as tid from atlasqueue.leased l
        where l.queue = %(queue)s and l.job_id = u.job_id and not l.cancel_requested
            and %(leased)s::boolean
        limit 1 for update skip locked
    ) l
),
requested as (
    update atlasqueue.leased l set cancel_requested = true from leased_places p where l.ctid = p.tid
    returning l.job_id, l.session_id, l.fence
),
moved as (
    select * from from_ready union all select * from from_scheduled
),
to_finished as (
    insert into atlasqueue.finished (queue, job_id, state, fence, attempt, crashes, deliveries)
    select %(queue)s, job_id, 'c', fence, attempt, crashes, deliveries from moved
),
delta as (
    insert into atlasqueue.depth_deltas (queue, ready, scheduled, cancelled)
    select
        %(queue)s, -(select count(*) from from_ready), -(select count(*) from from_scheduled),
        (select count(*) from moved)
    where exists (select from moved)
)
select job_id::text, null::bigint, null::bigint from moved
union all
select job_id::text, session_id, fence from requested

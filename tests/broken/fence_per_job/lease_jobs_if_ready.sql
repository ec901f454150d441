-- BROKEN on purpose (fence_per_job): see tests/broken/__init__.py
-- lease: ready → leased, with a new fence and the delivery counted. Guards: the queue is not paused;
-- the row is unlocked and within one of the windows of seq (floor, ceiling] of its priority.
-- LATERAL in array order is dispatch order without a sort; the outer LIMIT stops before lower
-- priorities are locked. Deleting by ctid keeps the plan from reopening another index path, and no two
-- CTEs are joined: with hash joins off that is n². sessions[i] gets the i-th job.
-- The join with the body is LEFT: a missing body must surface (kind is null), not be leased unseen.
with locked as materialized (
    select r.tid
    from unnest(
        %(priorities)s::smallint[], %(floors)s::bigint[], %(ceilings)s::bigint[]
    ) as windows (priority, seq_floor, seq_ceiling),
    lateral (
        select r.ctid as tid
        from atlasqueue.ready r
        where r.queue = %(queue)s and r.priority = windows.priority
            and r.seq > windows.seq_floor and r.seq <= windows.seq_ceiling
        order by r.queue, r.priority, r.seq
        limit cardinality(%(sessions)s::bigint[])
        for update skip locked
    ) r
    where exists (select from atlasqueue.queues q where q.name = %(queue)s and not q.paused)
    limit cardinality(%(sessions)s::bigint[])
),
taken as (
    delete from atlasqueue.ready r using locked where r.ctid = locked.tid returning r.*
),
granted as materialized (
    select
        t.job_id, t.seq, t.priority, t.attempt, t.crashes, t.deliveries + 1 as deliveries,
        t.fence as last_fence,
        t.fence + 1 as fence,
        (%(sessions)s::bigint[])[row_number() over ()] as session_id,
        b.kind, b.payload, b.headers, b.deadline_ms,
        case when t.deliveries = 0
            then date_part('epoch', now() - greatest(b.created_at, b.run_at))
        end as waited_s,
        coalesce(
            b.max_attempts,
            (select q.max_attempts from atlasqueue.queues q where q.name = %(queue)s),
            %(max_attempts)s
        ) as max_attempts,
        now() + b.deadline_ms * interval '1 ms' as deadline_at
    from taken t
    left join lateral (
        select j.kind, j.payload, j.headers, j.max_attempts, j.deadline_ms, j.created_at, j.run_at
        from atlasqueue.jobs j where j.queue = %(queue)s and j.job_id = t.job_id limit 1
    ) b on true
),
to_leased as (
    insert into atlasqueue.leased (
        queue, job_id, fence, session_id, leased_at, deadline_at,
        priority, attempt, crashes, deliveries
    )
    select
        %(queue)s, job_id, fence, session_id, now(), deadline_at,
        priority, attempt, crashes, deliveries
    from granted
),
delta as (
    insert into atlasqueue.depth_deltas (queue, ready, leased)
    select %(queue)s, -count(*), count(*) from granted having count(*) > 0
)
select
    g.session_id, uuid_send(g.job_id), g.fence, g.kind, g.payload, g.headers::text, g.priority, g.attempt,
    g.crashes, g.deliveries, g.deadline_at, g.deadline_ms, g.max_attempts, g.seq, c.data,
    g.waited_s
from granted g
left join lateral (
    select k.data from atlasqueue.checkpoints k
    where g.deliveries > 1 and k.queue = %(queue)s and k.job_id = g.job_id limit 1
) c on true

-- redrive: dead → ready. Attempts and crashes start again; fence and deliveries never do. Guard: it is
-- a dead letter.
with locked as materialized (
    select x.tid
    from unnest(%(job_ids)s::uuid[]) as u (job_id),
    lateral (
        select x.ctid as tid from atlasqueue.dead_letters x
        where x.queue = %(queue)s and x.job_id = u.job_id
        limit 1 for update skip locked
    ) x
),
taken as (
    delete from atlasqueue.dead_letters x using locked where x.ctid = locked.tid returning x.*
),
to_ready as (
    insert into atlasqueue.ready (queue, priority, job_id, attempt, crashes, deliveries, fence, cause)
    select %(queue)s, priority, job_id, 0, 0, deliveries, fence, 'r' from taken
),
delta as (
    insert into atlasqueue.depth_deltas (queue, dead, ready)
    select %(queue)s, -count(*), count(*) from taken having count(*) > 0
)
select count(*) from taken

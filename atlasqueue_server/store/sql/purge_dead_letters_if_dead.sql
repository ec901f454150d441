-- purge: dead → gone, with body, failures and checkpoint. Guard: it is a dead letter.
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
    delete from atlasqueue.dead_letters x using locked where x.ctid = locked.tid returning x.job_id
),
bodies as (
    delete from atlasqueue.jobs j using taken t where j.queue = %(queue)s and j.job_id = t.job_id
),
history as (
    delete from atlasqueue.failures f using taken t where f.queue = %(queue)s and f.job_id = t.job_id
),
progress as (
    delete from atlasqueue.checkpoints c using taken t
    where c.queue = %(queue)s and c.job_id = t.job_id
),
delta as (
    insert into atlasqueue.depth_deltas (queue, dead)
    select %(queue)s, -count(*) from taken having count(*) > 0
)
select count(*) from taken

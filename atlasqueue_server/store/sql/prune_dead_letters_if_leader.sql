-- prune: dead letters past their retention, with all that is known of them. Guards: the leader's term,
-- and the age.
with locked as materialized (
    select x.ctid as tid
    from atlasqueue.dead_letters x
    where x.died_at < now() - %(retention_days)s * interval '1 day'
        and exists (
            select from atlasqueue.leader
            where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
            for key share
        )
    order by x.died_at
    limit %(batch)s
    for update skip locked
),
taken as (
    delete from atlasqueue.dead_letters x using locked where x.ctid = locked.tid
    returning x.queue, x.job_id
),
bodies as (
    delete from atlasqueue.jobs j using taken t where j.queue = t.queue and j.job_id = t.job_id
),
history as (
    delete from atlasqueue.failures f using taken t where f.queue = t.queue and f.job_id = t.job_id
),
progress as (
    delete from atlasqueue.checkpoints c using taken t where c.queue = t.queue and c.job_id = t.job_id
),
delta as (
    insert into atlasqueue.depth_deltas (queue, dead)
    select queue, -count(*) from taken group by queue
)
select count(*) from taken

-- prune: bodies, failures and checkpoints of finished jobs that are past their retention. Guards: the
-- leader's term; the job is finished before the given time; and its body is no younger, because an id
-- whose old body is gone may have been enqueued anew while its old row of finished still stands.
with old as materialized (
    select u.job_id
    from unnest(%(job_ids)s::uuid[]) as u (job_id)
    where exists (
        select from atlasqueue.finished f
        where f.queue = %(queue)s and f.job_id = u.job_id and f.finished_at < %(before)s::timestamptz
    )
    and not exists (
        select from atlasqueue.jobs j
        where j.queue = %(queue)s and j.job_id = u.job_id and j.created_at >= %(before)s::timestamptz
    )
    and exists (
        select from atlasqueue.leader
        where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
        for key share
    )
),
history as (
    delete from atlasqueue.failures f using old where f.queue = %(queue)s and f.job_id = old.job_id
),
progress as (
    delete from atlasqueue.checkpoints c using old where c.queue = %(queue)s and c.job_id = old.job_id
),
bodies as (
    delete from atlasqueue.jobs j using old where j.queue = %(queue)s and j.job_id = old.job_id
    returning j.job_id
)
select count(*) from bodies

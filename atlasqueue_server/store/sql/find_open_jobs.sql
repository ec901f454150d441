-- Those of some jobs that a cancel would touch, in the states asked for, and whether each is leased.
select u.job_id::text, o.is_leased
from unnest(%(job_ids)s::uuid[]) as u (job_id),
lateral (
    select false as is_leased from atlasqueue.scheduled s
    where s.queue = %(queue)s and s.job_id = u.job_id and %(scheduled)s::boolean
    union all
    select false
    from atlasqueue.jobs j,
    lateral (
        select from atlasqueue.ready r
        where r.queue = j.queue and r.priority = j.priority and r.seq = j.ready_seq and r.job_id = j.job_id
        limit 1
    ) r
    where j.queue = %(queue)s and j.job_id = u.job_id and %(ready)s::boolean
    union all
    select false from atlasqueue.ready r
    where r.queue = %(queue)s and r.job_id = u.job_id and r.cause <> 'e' and %(ready)s::boolean
    union all
    select true from atlasqueue.leased l
    where l.queue = %(queue)s and l.job_id = u.job_id and not l.cancel_requested and %(leased)s::boolean
    limit 1
) o

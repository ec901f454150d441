-- Of every queue for metrics, one snapshot: depth, paused, how long the oldest ready job could have been
-- leased (s), and whether depth is an estimate. Costs the same however many jobs there are: depth is the
-- sum of deltas, of which at most so many are read, and of each priority only the first job in order is
-- looked at, in the queues with the most ready jobs. When a job was released, reconciled or redriven is
-- not on record: then its enqueue counts.
with unfolded as materialized (
    select queue, scheduled, ready, leased, dead, succeeded, cancelled
    from atlasqueue.depth_deltas limit %(deltas_max)s
),
counted as materialized (
    select
        queue, sum(scheduled)::bigint as scheduled, sum(ready)::bigint as ready,
        sum(leased)::bigint as leased, sum(dead)::bigint as dead,
        sum(succeeded)::bigint as succeeded, sum(cancelled)::bigint as cancelled
    from (
        select queue, scheduled, ready, leased, dead, succeeded, cancelled from atlasqueue.depths
        union all
        select queue, scheduled, ready, leased, dead, succeeded, cancelled from unfolded
    ) every
    group by queue
),
backlogs as materialized (
    select queue from counted where ready > 0 order by ready desc limit %(queues_max)s
),
oldest as materialized (
    select b.queue, max(date_part('epoch', clock_timestamp() - first.since)) as age_s
    from backlogs b,
    (values (1::smallint), (2::smallint), (3::smallint), (4::smallint), (5::smallint)) as p (priority),
    lateral (
        select r.job_id, r.deliveries from atlasqueue.ready r
        where r.queue = b.queue and r.priority = p.priority
        order by r.queue, r.priority, r.seq limit 1
    ) r,
    lateral (
        select greatest(
            j.created_at, j.run_at,
            (
                select max(f.failed_at) from atlasqueue.failures f
                where r.deliveries > 0 and f.queue = b.queue and f.job_id = r.job_id
            )
        ) as since
        from atlasqueue.jobs j where j.queue = b.queue and j.job_id = r.job_id limit 1
    ) first
    group by b.queue
)
select
    q.name, coalesce(c.scheduled, 0), coalesce(c.ready, 0), coalesce(c.leased, 0),
    coalesce(c.dead, 0), coalesce(c.succeeded, 0), coalesce(c.cancelled, 0), q.paused,
    coalesce(o.age_s, 0), (select count(*) from unfolded) >= %(deltas_max)s
from atlasqueue.queues q
left join lateral (select * from counted c where c.queue = q.name limit 1) c on true
left join lateral (select * from oldest o where o.queue = q.name limit 1) o on true
order by c.ready desc nulls last, q.name

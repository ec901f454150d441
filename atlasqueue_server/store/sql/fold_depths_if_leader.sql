-- Folds a batch of deltas into one row a queue; how many. Guard: the leader's term.
with batch as materialized (
    select ctid as tid from atlasqueue.depth_deltas
    where exists (
        select from atlasqueue.leader
        where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
        for key share
    )
    limit %(batch)s
    for update skip locked
),
folded as (
    delete from atlasqueue.depth_deltas d using batch where d.ctid = batch.tid
    returning d.*
),
to_depths as (
    insert into atlasqueue.depths as t (queue, scheduled, ready, leased, dead, succeeded, cancelled)
    select queue, sum(scheduled), sum(ready), sum(leased), sum(dead), sum(succeeded), sum(cancelled)
    from folded group by queue order by queue
    on conflict (queue) do update set
        scheduled = t.scheduled + excluded.scheduled, ready = t.ready + excluded.ready,
        leased = t.leased + excluded.leased, dead = t.dead + excluded.dead,
        succeeded = t.succeeded + excluded.succeeded, cancelled = t.cancelled + excluded.cancelled
)
select count(*) from folded

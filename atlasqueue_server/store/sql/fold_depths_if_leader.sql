-- Folds the deltas into one row a queue. Guard: the leader's term.
with folded as (
    delete from atlasqueue.depth_deltas
    where exists (
        select from atlasqueue.leader
        where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
    )
    returning *
)
insert into atlasqueue.depths as t (queue, scheduled, ready, leased, dead, succeeded, cancelled)
select queue, sum(scheduled), sum(ready), sum(leased), sum(dead), sum(succeeded), sum(cancelled)
from folded group by queue order by queue
on conflict (queue) do update set
    scheduled = t.scheduled + excluded.scheduled, ready = t.ready + excluded.ready,
    leased = t.leased + excluded.leased, dead = t.dead + excluded.dead,
    succeeded = t.succeeded + excluded.succeeded, cancelled = t.cancelled + excluded.cancelled

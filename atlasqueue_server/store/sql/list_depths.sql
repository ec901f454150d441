-- Jobs of every queue by state: exact, one snapshot.
select
    queue, sum(scheduled)::bigint, sum(ready)::bigint, sum(leased)::bigint, sum(dead)::bigint,
    sum(succeeded)::bigint, sum(cancelled)::bigint
from (
    select queue, scheduled, ready, leased, dead, succeeded, cancelled from atlasqueue.depths
    union all
    select queue, scheduled, ready, leased, dead, succeeded, cancelled from atlasqueue.depth_deltas
) counted
group by queue
order by queue

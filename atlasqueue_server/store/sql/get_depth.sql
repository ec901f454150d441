-- Jobs of one queue by state: exact, one snapshot.
select
    coalesce(sum(scheduled), 0)::bigint, coalesce(sum(ready), 0)::bigint,
    coalesce(sum(leased), 0)::bigint, coalesce(sum(dead), 0)::bigint,
    coalesce(sum(succeeded), 0)::bigint, coalesce(sum(cancelled), 0)::bigint
from (
    select scheduled, ready, leased, dead, succeeded, cancelled
    from atlasqueue.depths where queue = %(queue)s
    union all
    select scheduled, ready, leased, dead, succeeded, cancelled
    from atlasqueue.depth_deltas where queue = %(queue)s
) counted

-- Queues with ready jobs, whether they are paused, and how many live sessions serve them.
select
    d.queue, d.ready::bigint, coalesce(q.paused, false) as paused,
    (
        select count(*) from atlasqueue.sessions s
        where not s.lost and s.expires_at > clock_timestamp() and d.queue = any(s.queues)
    ) as sessions
from (
    select u.queue, sum(u.ready) as ready
    from (
        select queue, ready from atlasqueue.depths
        union all
        select queue, ready from atlasqueue.depth_deltas
    ) u
    group by u.queue
) d
left join atlasqueue.queues q on q.name = d.queue
where d.ready > 0
order by d.ready desc
limit 100

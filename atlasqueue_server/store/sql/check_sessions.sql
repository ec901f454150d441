-- Of the sessions whose streams are open on one server, those that are not as it knows them: lost,
-- opened again under a higher epoch elsewhere, or holding fewer leases than it counts (another server
-- took a report, or the scheduler a lease). What it counts is above the floor: below are only entries of
-- leases that are over, which vacuum cannot remove behind a pinned xmin. And, in rows that name a queue,
-- the leases whose cancel was requested.
with known as materialized (
    select u.session_id, u.epoch, u.leases, u.fence_floor
    from unnest(
        %(session_ids)s::bigint[], %(epochs)s::bigint[], %(leases)s::integer[],
        %(fence_floors)s::bigint[]
    ) as u (session_id, epoch, leases, fence_floor)
)
select
    u.session_id, coalesce(s.lost, true) as lost, coalesce(s.epoch, 0) as epoch,
    coalesce(c.leases, 0) < u.leases as fewer,
    null::text as queue, null::text as job_id, null::bigint as fence
from known u
left join lateral (
    select s.lost, s.epoch from atlasqueue.sessions s where s.session_id = u.session_id limit 1
) s on true
left join lateral (
    select count(*) as leases from atlasqueue.leased l
    where u.leases > 0 and l.session_id = u.session_id and l.fence > u.fence_floor
) c on true
where s.lost is distinct from false or s.epoch > u.epoch or c.leases < u.leases
union all
select l.session_id, null, null, null, l.queue, l.job_id::text, l.fence
from known u,
lateral (
    select l.session_id, l.queue, l.job_id, l.fence from atlasqueue.leased l
    where l.session_id = u.session_id and l.cancel_requested
) l

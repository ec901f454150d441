-- Of the sessions whose streams are open on one server, those that are not as it knows them: lost,
-- opened again under a higher epoch elsewhere, or holding fewer leases than it counts (another server
-- took a report, or the scheduler a lease).
select
    u.session_id, coalesce(s.lost, true) as lost, coalesce(s.epoch, 0) as epoch,
    coalesce(c.leases, 0) < u.leases as fewer
from unnest(
    %(session_ids)s::bigint[], %(epochs)s::bigint[], %(leases)s::integer[]
) as u (session_id, epoch, leases)
left join lateral (
    select s.lost, s.epoch from atlasqueue.sessions s where s.session_id = u.session_id limit 1
) s on true
left join lateral (
    select count(*) as leases from atlasqueue.leased l
    where u.leases > 0 and l.session_id = u.session_id
) c on true
where s.lost is distinct from false or s.epoch > u.epoch or c.leases < u.leases

-- heartbeat, of many sessions that hold nothing: each lives on for its visibility timeout, which follows
-- its queues' policies. Guards: not lost, and not superseded by a higher epoch. The ids come sorted, so
-- that two of these lock in one order. leased: a lease of the session is on record above its floor, so
-- what it holds has to be looked at by itself. Only clock_timestamp() is right here: now() may be old
-- after a wait for a row lock.
with locked as materialized (
    select k.session_id, k.queues, u.fence_floor
    from unnest(
        %(session_ids)s::bigint[], %(epochs)s::bigint[], %(fence_floors)s::bigint[]
    ) as u (session_id, epoch, fence_floor),
    lateral (
        select s.session_id, s.queues from atlasqueue.sessions s
        where s.session_id = u.session_id and not s.lost and s.epoch <= u.epoch
        limit 1 for update
    ) k
),
extended as materialized (
    select
        t.session_id, min(t.fence_floor) as fence_floor,
        max(coalesce(q.visibility_timeout_ms, %(visibility_timeout_ms)s)) as timeout_ms
    from locked t,
    lateral (
        select q.visibility_timeout_ms from atlasqueue.queues q where q.name = any (t.queues)
    ) q
    group by t.session_id
)
update atlasqueue.sessions s
set
    visibility_timeout_ms = e.timeout_ms,
    expires_at = clock_timestamp() + e.timeout_ms * interval '1 ms'
from extended e
where s.session_id = e.session_id
returning
    s.session_id, s.epoch, s.visibility_timeout_ms,
    s.streaming and exists (
        select from atlasqueue.servers v
        where v.server_id = s.server_id
            and v.seen_at > clock_timestamp() - %(present_within_s)s * interval '1 s'
    ) as streaming,
    exists (
        select from atlasqueue.leased l
        where l.session_id = s.session_id and l.fence > e.fence_floor
    ) as leased

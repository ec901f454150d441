-- Opens a session's stream again under a higher epoch and extends it; its leases stay. Guards: not
-- lost, and the epoch grows. expires_at from clock_timestamp(): now() may be old after a lock wait. It never
-- comes sooner than a heartbeat was told: the next one may be a third of the older, longer timeout away.
update atlasqueue.sessions s
set
    epoch = %(epoch)s, slots = %(slots)s, streaming = %(streaming)s, server_id = %(server_id)s,
    worker = %(worker)s, queues = %(queues)s::text[], visibility_timeout_ms = v.timeout_ms,
    expires_at = greatest(s.expires_at, clock_timestamp() + v.timeout_ms * interval '1 ms')
from (
    select max(coalesce(q.visibility_timeout_ms, %(visibility_timeout_ms)s)) as timeout_ms
    from atlasqueue.queues q where q.name = any (%(queues)s::text[])
) v
where s.session_id = %(session_id)s and not s.lost and s.epoch < %(epoch)s
returning s.session_id, s.epoch, s.visibility_timeout_ms

-- heartbeat: the session lives on for its visibility timeout, which follows its queues' policies.
-- Guards: not lost, and not superseded by a higher epoch (an epoch above the stored one belongs to a
-- stream that is just being opened). The stream of a server that was killed is none, though nobody came
-- to say so. Only clock_timestamp() is right here: now() may be old after a
-- wait for the row lock.
update atlasqueue.sessions s
set
    visibility_timeout_ms = v.timeout_ms,
    expires_at = clock_timestamp() + v.timeout_ms * interval '1 ms'
from (
    select max(coalesce(q.visibility_timeout_ms, %(visibility_timeout_ms)s)) as timeout_ms
    from atlasqueue.sessions t, atlasqueue.queues q
    where t.session_id = %(session_id)s and q.name = any (t.queues)
) v
where s.session_id = %(session_id)s and not s.lost and s.epoch <= %(epoch)s
returning
    s.visibility_timeout_ms,
    s.streaming and exists (
        select from atlasqueue.servers v
        where v.server_id = s.server_id
            and v.seen_at > clock_timestamp() - %(present_within_s)s * interval '1 s'
    ) as streaming

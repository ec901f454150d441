-- A new session, with the largest visibility timeout of its queues.
insert into atlasqueue.sessions (
    epoch, expires_at, visibility_timeout_ms, slots, streaming, server_id, worker, queues
)
select
    1, clock_timestamp() + v.timeout_ms * interval '1 ms', v.timeout_ms,
    %(slots)s, %(streaming)s, %(server_id)s, %(worker)s, %(queues)s::text[]
from (
    select max(coalesce(q.visibility_timeout_ms, %(visibility_timeout_ms)s)) as timeout_ms
    from atlasqueue.queues q where q.name = any (%(queues)s::text[])
) v
returning session_id, epoch, visibility_timeout_ms

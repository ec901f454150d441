-- Reads queues by name.
select
    name, paused, max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms,
    visibility_timeout_ms, created_at
from atlasqueue.queues where name = any (%(names)s::text[])
order by name

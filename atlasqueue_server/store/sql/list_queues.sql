-- Queues by name, after a given one.
select
    name, paused, max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms,
    visibility_timeout_ms, created_at
from atlasqueue.queues where name > %(after)s
order by name
limit %(most)s

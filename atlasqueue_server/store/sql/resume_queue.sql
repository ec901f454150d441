-- Leases are granted from the queue again.
update atlasqueue.queues set paused = false where name = %(name)s
returning
    name, paused, max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms,
    visibility_timeout_ms, created_at

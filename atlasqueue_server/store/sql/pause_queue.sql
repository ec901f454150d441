-- No lease is granted from the queue by statements that begin after this commits.
update atlasqueue.queues set paused = true where name = %(name)s
returning
    name, paused, max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms,
    visibility_timeout_ms, created_at

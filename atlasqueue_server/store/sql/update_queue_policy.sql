-- Sets the named fields of a queue's policy and leaves the others.
update atlasqueue.queues
set
    max_attempts = case when %(set_max_attempts)s then %(max_attempts)s::smallint else max_attempts end,
    backoff_initial_ms = case
        when %(set_backoff_initial_ms)s then %(backoff_initial_ms)s::integer else backoff_initial_ms
    end,
    backoff_multiplier = case
        when %(set_backoff_multiplier)s then %(backoff_multiplier)s::double precision
        else backoff_multiplier
    end,
    backoff_cap_ms = case
        when %(set_backoff_cap_ms)s then %(backoff_cap_ms)s::integer else backoff_cap_ms
    end,
    visibility_timeout_ms = case
        when %(set_visibility_timeout_ms)s then %(visibility_timeout_ms)s::integer
        else visibility_timeout_ms
    end
where name = %(name)s
returning
    name, paused, max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms,
    visibility_timeout_ms, created_at

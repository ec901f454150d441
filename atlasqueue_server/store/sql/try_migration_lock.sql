-- Whether the caller may migrate; polled, never waited for.
select pg_try_advisory_lock(%(key)s)

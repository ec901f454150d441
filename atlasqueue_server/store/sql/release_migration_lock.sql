-- The next one may migrate.
select pg_advisory_unlock(%(key)s)

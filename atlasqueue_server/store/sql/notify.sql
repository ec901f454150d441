-- Wakes the other servers. In a transaction of its own: NOTIFY takes a database-wide lock at commit.
select pg_notify(%(channel)s, %(message)s)

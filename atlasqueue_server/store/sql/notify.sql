-- Wakes the other servers. In a transaction of its own: NOTIFY takes a database-wide lock at commit. That
-- commit waits for no disk: a signal that is lost with the server is found by the poll.
select pg_notify(%(channel)s, %(message)s), set_config('synchronous_commit', 'off', true)

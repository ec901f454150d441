-- Reads what decides about a session.
select epoch, lost, queues from atlasqueue.sessions where session_id = %(session_id)s

-- The session has no stream any more. Guard: the stream that ended was its newest.
update atlasqueue.sessions
set streaming = false
where session_id = %(session_id)s and epoch = %(epoch)s and server_id = %(server_id)s

-- What a session holds.
select fence from atlasqueue.leased where session_id = %(session_id)s

-- How many jobs a session holds.
select count(*) from atlasqueue.leased where session_id = %(session_id)s

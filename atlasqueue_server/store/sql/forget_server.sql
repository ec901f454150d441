-- Forgets a server that stops.
delete from atlasqueue.servers where server_id = %(server_id)s

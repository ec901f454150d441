-- Forgets a server that stops, and all that were not seen for a minute.
delete from atlasqueue.servers
where server_id = %(server_id)s or seen_at < clock_timestamp() - interval '1 minute'

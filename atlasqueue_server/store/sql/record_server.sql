-- This server lives.
insert into atlasqueue.servers (server_id, address, version)
values (%(server_id)s, %(address)s, %(version)s)
on conflict (server_id) do update set seen_at = clock_timestamp()

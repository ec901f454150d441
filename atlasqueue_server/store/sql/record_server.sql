-- This server lives; and how far its clock is ahead of the database's.
insert into atlasqueue.servers (server_id, address, version, clock_offset_ms)
values (
    %(server_id)s, %(address)s, %(version)s,
    1000 * (%(clock_s)s::double precision - extract(epoch from clock_timestamp()))
)
on conflict (server_id) do update
set seen_at = clock_timestamp(), clock_offset_ms = excluded.clock_offset_ms

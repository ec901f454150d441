-- This server lives; and how far its clock is ahead of the database's. Returns whether other servers live.
insert into atlasqueue.servers (server_id, address, version, clock_offset_ms)
values (
    %(server_id)s, %(address)s, %(version)s,
    1000 * (%(clock_s)s::double precision - extract(epoch from clock_timestamp()))
)
on conflict (server_id) do update
set seen_at = clock_timestamp(), clock_offset_ms = excluded.clock_offset_ms
returning exists (
    select from atlasqueue.servers s
    where s.server_id <> %(server_id)s
        and s.seen_at > clock_timestamp() - %(present_within_s)s * interval '1 s'
)

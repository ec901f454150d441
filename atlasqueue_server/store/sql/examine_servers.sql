-- The servers that have not been forgotten, when each was last seen, and its clock.
select
    s.server_id, s.address, s.version,
    extract(epoch from clock_timestamp() - s.seen_at)::double precision as seen_s,
    s.clock_offset_ms
from atlasqueue.servers s
order by s.server_id

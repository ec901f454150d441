-- Who leads, for how much longer, and when a leader last ticked. No row: nobody ever led.
select
    l.holder, l.term,
    extract(epoch from l.expires_at - clock_timestamp())::double precision as time_left_s,
    extract(epoch from clock_timestamp() - l.ticked_at)::double precision as ticked_s
from atlasqueue.leader l

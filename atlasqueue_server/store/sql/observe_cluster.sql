-- Who works and who leads, for metrics: one row.
select
    coalesce((select l.expires_at > clock_timestamp() from atlasqueue.leader l), false),
    coalesce((select l.term from atlasqueue.leader l), 0),
    (select date_part('epoch', clock_timestamp() - l.ticked_at) from atlasqueue.leader l),
    (
        select count(*) from atlasqueue.servers
        where seen_at > clock_timestamp() - %(seen_within_s)s * interval '1 s'
    ),
    count(*) filter (where s.streaming and not s.lost and s.expires_at > clock_timestamp()),
    count(*) filter (where not s.streaming and not s.lost and s.expires_at > clock_timestamp()),
    count(*) filter (where s.lost),
    coalesce(
        sum(s.slots) filter (where not s.lost and s.expires_at > clock_timestamp()), 0
    )::bigint
from atlasqueue.sessions s

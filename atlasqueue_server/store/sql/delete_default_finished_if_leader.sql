-- prune: finished rows past their retention that no day covers. Guard: the leader's term.
with old as materialized (
    select ctid as tid from atlasqueue.finished_default
    where finished_at < %(before)s::timestamptz
        and exists (
            select from atlasqueue.leader
            where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
            for key share
        )
    limit %(batch)s
)
delete from atlasqueue.finished_default f using old where f.ctid = old.tid
returning 1

-- Forgets servers that were not seen for a minute. Guard: the leader's term.
delete from atlasqueue.servers
where seen_at < clock_timestamp() - interval '1 minute'
    and exists (
        select from atlasqueue.leader
        where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
        for key share
    )

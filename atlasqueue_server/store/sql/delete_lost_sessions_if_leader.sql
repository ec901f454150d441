-- Forgets sessions that were lost a while ago and hold nothing, a batch. Guard: the leader's term. The
-- while leaves time for a lease in flight to find the session lost rather than gone.
with old as materialized (
    select s.session_id
    from atlasqueue.sessions s
    where s.lost and s.expires_at < clock_timestamp() - interval '1 minute'
        and not exists (select from atlasqueue.leased l where l.session_id = s.session_id)
        and exists (
            select from atlasqueue.leader
            where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
            for key share
        )
    limit %(batch)s
    for update of s skip locked
)
delete from atlasqueue.sessions s using old where s.session_id = old.session_id
returning 1

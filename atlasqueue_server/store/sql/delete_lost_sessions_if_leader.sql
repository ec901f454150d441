-- Forgets sessions that were lost an hour ago and hold nothing. Guard: the leader's term.
delete from atlasqueue.sessions s
where s.lost and s.expires_at < clock_timestamp() - interval '1 hour'
    and not exists (select from atlasqueue.leased l where l.session_id = s.session_id)
    and exists (
        select from atlasqueue.leader
        where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
    )

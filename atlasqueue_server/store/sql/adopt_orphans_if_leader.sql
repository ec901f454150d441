-- Leases whose session row is gone (a restored backup) get a lost one, so that expire is their only
-- way out. Guard: the leader's term. Walks leased once; run it rarely.
insert into atlasqueue.sessions (
    session_id, epoch, expires_at, visibility_timeout_ms, slots, streaming, lost, server_id, worker, queues
)
select distinct l.session_id, 1, clock_timestamp(), 0, 0, false, true, '', 'orphan', '{}'::text[]
from atlasqueue.leased l
where not exists (select from atlasqueue.sessions s where s.session_id = l.session_id)
    and exists (
        select from atlasqueue.leader
        where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
        for key share
    )
on conflict (session_id) do nothing

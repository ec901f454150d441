-- expire, first step: sessions whose time is over are lost, for good. Guards: the leader's term, and
-- expires_at re-read under the row lock: a heartbeat that committed first wins, one in flight is
-- skipped, one that comes later finds lost.
update atlasqueue.sessions s
set lost = true, streaming = false
from (
    select session_id
    from atlasqueue.sessions
    where not lost and expires_at < clock_timestamp()
    order by expires_at
    limit %(batch)s
    for update skip locked
) overdue
where s.session_id = overdue.session_id
returning s.session_id, s.worker

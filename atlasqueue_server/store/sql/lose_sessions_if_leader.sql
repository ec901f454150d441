-- expire, first step: sessions whose time is over are lost, for good. Guards: the leader's term; a
-- recent tick, so that after an outage nothing is lost before extend_by_outage_if_leader has run; and
-- expires_at re-read under the row lock: a heartbeat that committed first wins, one in flight is
-- skipped, one that comes later finds lost. now(), not clock_timestamp(): should the database stand
-- still in the middle of this, sessions are judged by the time before, the tick by the time after.
update atlasqueue.sessions s
set lost = true, streaming = false
from (
    select session_id
    from atlasqueue.sessions
    where not lost and expires_at < now()
        and exists (
            select from atlasqueue.leader
            where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
                and ticked_at > clock_timestamp() - %(ticked_within_s)s * interval '1 s'
            for key share
        )
    order by expires_at
    limit %(batch)s
    for update skip locked
) overdue
where s.session_id = overdue.session_id
returning s.session_id, s.worker

-- After a report moved fewer jobs than were sent: what the others are. A new statement, because the
-- winner of a row lock is invisible to the loser's own snapshot. retry: report it again.
-- outcome: s complete, f fail, r reject, z snooze, l release, c cancel, k unknown kind.
-- The last fence, carried on every move, is what tells a repeat from a stale report. f, r and k leave a
-- row in failures, which alone proves them; of z, l and c a job that was cancelled keeps no more than that.
select
    u.fence,
    case
        when exists (
            select from atlasqueue.leased l
            where l.queue = %(queue)s and l.job_id = u.job_id and l.fence = u.fence
        ) then 'retry'
        when exists (
            select from atlasqueue.finished d
            where d.queue = %(queue)s and d.job_id = u.job_id and d.fence = u.fence
                and u.outcome in ('s', 'c', 'z', 'l') and (d.state = 's') = (u.outcome = 's')
        ) then 'already_applied'
        when u.outcome in ('f', 'r', 'k') and exists (
            select from atlasqueue.failures f
            where f.queue = %(queue)s and f.job_id = u.job_id and f.fence = u.fence
                and f.cause = u.outcome
        ) then 'already_applied'
        when u.outcome = 'z' and exists (
            select from atlasqueue.scheduled s
            where s.queue = %(queue)s and s.job_id = u.job_id and s.fence = u.fence and s.cause = 's'
        ) then 'already_applied'
        when u.outcome = 'l' and exists (
            select from atlasqueue.ready r
            where r.queue = %(queue)s and r.job_id = u.job_id and r.fence = u.fence
                and r.cause <> 'e' and r.cause = 'l'
        ) then 'already_applied'
        when not exists (
            select from atlasqueue.jobs j where j.queue = %(queue)s and j.job_id = u.job_id
        ) then 'not_found'
        else 'stale'
    end
from unnest(%(job_ids)s::uuid[], %(fences)s::bigint[], %(outcomes)s::"char"[]) as u (job_id, fence, outcome)

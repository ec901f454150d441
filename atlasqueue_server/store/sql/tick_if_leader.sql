-- The scheduler works at this moment, and its leader's lease starts again; and what it has to do next, so
-- that its loops need not ask in turn. Guards: the leader's term, and no outage lies between the last tick and this one. No row: the term is
-- over, or extend_by_outage_if_leader has to come first.
-- Scheduled jobs that have been due for longer than the window are left to the sweep, which asks with a
-- window of all time: behind a pinned xmin the look would walk every entry that was ever promoted.
update atlasqueue.leader
set
    ticked_at = clock_timestamp(),
    expires_at = clock_timestamp() + %(lease_s)s * interval '1 s'
where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
    and ticked_at > clock_timestamp() - %(outage_s)s * interval '1 s'
returning
    exists (select from atlasqueue.sessions s where not s.lost and s.expires_at < now())
    or exists (
        select from atlasqueue.sessions s,
        lateral (select from atlasqueue.leased l where l.session_id = s.session_id limit 1) l
        where s.lost
    ) as to_expire,
    exists (select from atlasqueue.leased l where l.deadline_at < clock_timestamp()) as overdue,
    exists (select from atlasqueue.depth_deltas) as to_fold,
    (
        select extract(epoch from min(d.run_at) - clock_timestamp())::double precision
        from atlasqueue.queues q,
        lateral (
            select s.run_at from atlasqueue.scheduled s
            where s.queue = q.name and s.run_at > now() - %(window_s)s * interval '1 s'
            order by s.queue, s.run_at limit 1
        ) d
    ) as due_in_s

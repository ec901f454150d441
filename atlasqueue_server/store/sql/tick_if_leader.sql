-- The scheduler works at this moment. Guards: the leader's term, and no outage lies between the last
-- tick and this one. No row: the term is over, or extend_by_outage_if_leader has to come first.
update atlasqueue.leader
set ticked_at = clock_timestamp()
where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
    and ticked_at > clock_timestamp() - %(outage_s)s * interval '1 s'
returning term

-- The leader's lease starts again. Guard: term and holder, and it is not over yet.
update atlasqueue.leader
set expires_at = clock_timestamp() + %(lease_s)s * interval '1 s'
where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
returning term

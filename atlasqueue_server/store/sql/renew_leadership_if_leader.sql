-- The leader's lease starts again, also when it was over and nobody took its place: no newer term
-- exists then. Guard: term and holder.
update atlasqueue.leader
set expires_at = clock_timestamp() + %(lease_s)s * interval '1 s'
where term = %(term)s and holder = %(holder)s
returning term

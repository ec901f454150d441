-- The leader's lease is over at once. Guard: term and holder.
update atlasqueue.leader set expires_at = clock_timestamp()
where term = %(term)s and holder = %(holder)s

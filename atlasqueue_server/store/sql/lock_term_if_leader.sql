-- Holds the leader's row until the end of the transaction, so that no newer term can begin before what
-- follows has committed. Guard: the leader's term.
select term from atlasqueue.leader
where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
for key share

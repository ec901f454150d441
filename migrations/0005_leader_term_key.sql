-- The term is a key of the leader's row. So a new term, which changes it, waits for every statement that holds the
-- row (for key share), while a tick or a renewal, which leave the term as it is, wait for none of them.
create unique index leader_term on atlasqueue.leader (term);

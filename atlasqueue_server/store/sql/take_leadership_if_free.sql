-- A new term for the caller. Guard: there is no leader, or its lease is over. The first look costs no
-- lock on the row, which the leader's own statements hold now and then.
insert into atlasqueue.leader as l (one, term, holder, expires_at, ticked_at)
select true, 1, %(holder)s, clock_timestamp() + %(lease_s)s * interval '1 s', clock_timestamp()
where not exists (select from atlasqueue.leader where expires_at > clock_timestamp())
on conflict (one) do update set
    term = l.term + 1, holder = excluded.holder,
    expires_at = clock_timestamp() + %(lease_s)s * interval '1 s'
where l.expires_at <= clock_timestamp()
returning term

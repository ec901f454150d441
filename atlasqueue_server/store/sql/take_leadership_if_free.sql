-- A new term for the caller. Guard: there is no leader, or its lease is over.
insert into atlasqueue.leader as l (one, term, holder, expires_at, ticked_at)
values (
    true, 1, %(holder)s, clock_timestamp() + %(lease_s)s * interval '1 s', clock_timestamp()
)
on conflict (one) do update set
    term = l.term + 1, holder = excluded.holder,
    expires_at = clock_timestamp() + %(lease_s)s * interval '1 s'
where l.expires_at <= clock_timestamp()
returning term

-- BROKEN on purpose (grace): see tests/broken/__init__.py
-- The outage grace: every session that lives and every deadline is extended by the time for which
-- nobody ticked, so that no worker pays for an outage of the servers or the database. Guards: the
-- leader's term, and the last tick lies further back than an outage_s. A session that was heard
-- meanwhile gets its visibility timeout from now and no more, a lease granted meanwhile the time since
-- then. One statement: a leader that dies in it has granted nothing, the next one grants it whole.
with outage as materialized (
    select clock_timestamp() as ends_at, clock_timestamp() - ticked_at as gap
    from atlasqueue.leader
    where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
        and ticked_at <= clock_timestamp() - %(outage_s)s * interval '1 s'
    for update
),
sessions_extended as (
    update atlasqueue.sessions s
    set expires_at = greatest(
        s.expires_at,
        least(s.expires_at + o.gap, o.ends_at + s.visibility_timeout_ms * interval '1 ms')
    )
    from outage o
    where false
    returning 1
),
deadlines_extended as (
    update atlasqueue.leased l
    set deadline_at = l.deadline_at + least(o.gap, greatest(o.ends_at - l.leased_at, interval '0 s'))
    from outage o
    where false
    returning 1
),
counted as materialized (
    select
        (select count(*) from sessions_extended) as sessions,
        (select count(*) from deadlines_extended) as deadlines
),
ticked as (
    update atlasqueue.leader d
    set ticked_at = clock_timestamp()
    from outage, counted
    where d.term = %(term)s and d.holder = %(holder)s
)
select extract(epoch from outage.gap)::double precision, counted.sessions, counted.deadlines
from outage, counted

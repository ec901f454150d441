-- The health of PostgreSQL, for metrics: one row. What the role may not see is left out of the maxima.
-- Rows are kept for sessions of this database, whether they hold a snapshot or have only written, for standbys
-- (whose senders belong to no database) and for slots; not for other databases, nor for a VACUUM.
with others as materialized (
    select a.backend_xid, a.backend_xmin, a.datname, a.backend_type, a.xact_start
    from pg_catalog.pg_stat_activity a
    where a.pid <> pg_backend_pid()
        and (a.datname = current_database() or a.datname is null)
        and not exists (
            select from pg_catalog.pg_stat_progress_vacuum v where v.pid in (a.pid, a.leader_pid)
        )
)
select
    (
        select max(age(x.xmin))
        from (
            select unnest(array[o.backend_xid, o.backend_xmin]) as xmin from others o
            union all
            select p.transaction from pg_catalog.pg_prepared_xacts p where p.database = current_database()
            union all
            select unnest(array[s.xmin, s.catalog_xmin]) from pg_catalog.pg_replication_slots s
        ) x
    ),
    (
        select max(date_part('epoch', clock_timestamp() - o.xact_start))
        from others o
        where o.datname is not null and o.backend_type = 'client backend'
    ),
    (select wal_bytes::bigint from pg_catalog.pg_stat_wal),
    d.xact_commit, d.deadlocks,
    (select sum(numbackends)::bigint from pg_catalog.pg_stat_database),
    current_setting('max_connections')::integer, pg_database_size(d.datname)
from pg_catalog.pg_stat_database d
where d.datname = current_database()

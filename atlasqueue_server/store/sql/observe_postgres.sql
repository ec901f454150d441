-- The health of PostgreSQL, for metrics: one row. What the role may not see is left out of the maxima.
select
    (
        select max(age(x.xmin))
        from (
            select backend_xmin as xmin from pg_catalog.pg_stat_activity
            where pid <> pg_backend_pid()
            union all
            select transaction from pg_catalog.pg_prepared_xacts
            union all
            select xmin from pg_catalog.pg_replication_slots
            union all
            select catalog_xmin from pg_catalog.pg_replication_slots
        ) x
    ),
    (
        select max(date_part('epoch', clock_timestamp() - xact_start))
        from pg_catalog.pg_stat_activity
        where pid <> pg_backend_pid() and backend_type = 'client backend'
    ),
    (select wal_bytes::bigint from pg_catalog.pg_stat_wal),
    d.xact_commit, d.deadlocks, d.numbackends,
    current_setting('max_connections')::integer, pg_database_size(d.datname)
from pg_catalog.pg_stat_database d
where d.datname = current_database()

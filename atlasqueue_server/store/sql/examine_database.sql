-- The database and the role that looks at it: version, standby or not, what the role may see, connections, age.
select
    current_setting('server_version') as version,
    current_setting('server_version_num')::integer as version_number,
    pg_is_in_recovery() as standby,
    current_user::text as role,
    d.datname::text as name,
    pg_has_role('pg_read_all_stats', 'usage') as sees_all,
    extract(epoch from clock_timestamp())::double precision as clock_s,
    age(d.datfrozenxid)::bigint as frozen_age,
    (
        select count(*) from pg_stat_activity a where a.datname is not null
    ) as connections,
    current_setting('max_connections')::integer
    - current_setting('superuser_reserved_connections')::integer as connections_max,
    pg_encoding_to_char(d.encoding)::text as encoding,
    (
        select count(*) from pg_stat_activity a where a.datid = d.oid
    ) as database_connections,
    case when r.rolsuper or d.datconnlimit < 0 then null else d.datconnlimit end as database_connections_max,
    (
        select count(*) from pg_stat_activity a where a.usesysid = r.oid and a.datid is not null
    ) as role_connections,
    case when r.rolsuper or r.rolconnlimit < 0 then null else r.rolconnlimit end as role_connections_max
from pg_database d
join pg_roles r on r.rolname = current_user
where d.datname = current_database()

-- Sessions of this database that are in a transaction, and walsenders that hold a snapshot for a standby. Of a
-- session that the role may not see only its transaction ids are known. Without the text of queries, which may
-- hold anything. A VACUUM holds nobody back.
select
    a.pid, coalesce(a.usename::text, '') as role, coalesce(a.application_name, '') as application,
    coalesce(host(a.client_addr), 'local') as client, a.state,
    a.query = '<insufficient privilege>' as hidden,
    extract(epoch from clock_timestamp() - a.xact_start)::double precision as transaction_s,
    extract(epoch from clock_timestamp() - a.state_change)::double precision as state_s,
    greatest(age(a.backend_xid), age(a.backend_xmin))::bigint as xmin_age
from pg_stat_activity a
where a.pid <> pg_backend_pid()
    and a.datname = current_database()
    and a.backend_type is distinct from 'autovacuum worker'
    and not exists (select from pg_stat_progress_vacuum v where v.pid in (a.pid, a.leader_pid))
    and (a.xact_start is not null or a.backend_xmin is not null or a.query = '<insufficient privilege>')
order by a.xact_start nulls last

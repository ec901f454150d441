-- The tables of atlasqueue: rows, dead rows, and whether vacuum may come.
select
    t.relname::text as name, t.n_live_tup as live, t.n_dead_tup as dead,
    extract(epoch from clock_timestamp() - greatest(t.last_autovacuum, t.last_vacuum))::double precision
    as vacuumed_s,
    'autovacuum_enabled=false' = any(coalesce(c.reloptions, '{}')) as vacuum_off
from pg_stat_user_tables t
join pg_class c on c.oid = t.relid
where t.schemaname = 'atlasqueue'
order by t.relname

-- Rows of the tables, dead and alive, as PostgreSQL counts them; the days of finished are one table.
select
    case when relname like 'finished%%' then 'finished' else relname end,
    sum(n_dead_tup)::bigint, sum(n_live_tup)::bigint
from pg_catalog.pg_stat_user_tables
where schemaname = 'atlasqueue'
group by 1
order by 1

-- Indexes of atlasqueue that PostgreSQL does not use, or does not keep up to date; not those that are being built.
select n.relname::text as table_name, c.relname::text as name, i.indisready as kept_up_to_date
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_class n on n.oid = i.indrelid
join pg_namespace s on s.oid = c.relnamespace
where s.nspname = 'atlasqueue'
    and not (i.indisvalid and i.indisready)
    and not exists (
        select from pg_stat_progress_create_index p where i.indexrelid in (p.index_relid)
    )
order by c.relname

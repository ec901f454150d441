-- Transactions of this database that were prepared for a two-phase commit and not yet ended.
select
    p.gid, p.owner::text as role,
    extract(epoch from clock_timestamp() - p.prepared)::double precision as prepared_s
from pg_prepared_xacts p
where p.database = current_database()
order by p.prepared

-- Standbys that are connected now, and the oldest snapshot that each asks to be kept (hot_standby_feedback).
select
    coalesce(r.application_name, '') as name, r.sync_state, age(r.backend_xmin)::bigint as xmin_age
from pg_stat_replication r
order by r.application_name

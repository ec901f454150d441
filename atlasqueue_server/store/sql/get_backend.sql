-- The backend that runs this statement: no two that live at the same time have the same.
select a.pid, a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid()

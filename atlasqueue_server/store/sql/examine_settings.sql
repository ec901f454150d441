-- Settings of PostgreSQL as they hold for this role and database, and where each was made; numbers in the unit of
-- pg_settings.
select s.name, s.setting, s.source from pg_settings s where s.name = any(%(names)s::text[])

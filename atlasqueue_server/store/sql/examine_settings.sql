-- Settings of PostgreSQL as they hold for this role and database; numbers in the unit of pg_settings.
select s.name, s.setting from pg_settings s where s.name = any(%(names)s::text[])

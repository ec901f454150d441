-- Settings of one connection, over those of the role and the database; but for those that this PostgreSQL does not know.
select set_config(u.name, u.setting, false)
from unnest(%(names)s::text[], %(settings)s::text[]) as u (name, setting)
where current_setting(u.name, true) is not null

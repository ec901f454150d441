-- Settings of one connection.
select set_config(u.name, u.setting, false)
from unnest(%(names)s::text[], %(settings)s::text[]) as u (name, setting)

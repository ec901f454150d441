-- Queues come into being on first use. Guard: fewer than the limit exist. Returns the new ones.
insert into atlasqueue.queues (name)
select u.name
from unnest(%(names)s::text[]) with ordinality as u (name, nth)
where (select count(*) from atlasqueue.queues) + u.nth <= %(queues_max)s
    and not exists (select from atlasqueue.queues q where q.name = u.name)
order by u.name
on conflict (name) do nothing
returning name

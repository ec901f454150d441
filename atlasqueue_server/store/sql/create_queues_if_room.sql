-- Queues come into being on first use. Guard: fewer than the limit exist. Returns the new ones.
insert into atlasqueue.queues (name)
select n.name
from (
    select u.name, row_number() over (order by u.name) as nth
    from unnest(%(names)s::text[]) as u (name)
    where not exists (select from atlasqueue.queues q where q.name = u.name)
) n
where (select count(*) from atlasqueue.queues) + n.nth <= %(queues_max)s
order by n.name
on conflict (name) do nothing
returning name

-- Queues with scheduled jobs whose time has come, by name above a given one.
select q.name
from atlasqueue.queues q
where q.name > %(after)s
    and exists (select from atlasqueue.scheduled s where s.queue = q.name and s.run_at <= now())
order by q.name
limit %(most)s

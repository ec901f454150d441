-- Queues with scheduled jobs whose time has come.
select q.name
from atlasqueue.queues q
where exists (
    select from atlasqueue.scheduled s where s.queue = q.name and s.run_at <= now()
)

-- Queues with scheduled jobs whose time has come within a window, by name above a given one.
select q.name
from atlasqueue.queues q
where q.name > %(after)s
    and exists (
        select from atlasqueue.scheduled s
        where s.queue = q.name and s.run_at <= now()
            and s.run_at > now() - %(window_s)s * interval '1 s'
    )
order by q.name
limit %(most)s

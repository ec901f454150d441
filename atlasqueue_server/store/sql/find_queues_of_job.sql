-- In which queues an id stands; two are enough to know that it is ambiguous.
select q.name
from atlasqueue.queues q,
lateral (
    select from atlasqueue.jobs j where j.queue = q.name and j.job_id = %(job_id)s::uuid limit 1
) j
limit 2

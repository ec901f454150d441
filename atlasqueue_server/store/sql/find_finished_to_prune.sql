-- Jobs that finished on a day that is about to be dropped, by key, after a given one.
select queue, job_id::text
from atlasqueue.finished
where finished_at < %(before)s::timestamptz
    and (queue, job_id) > (%(after_queue)s, %(after_job_id)s::uuid)
order by queue, job_id
limit %(batch)s

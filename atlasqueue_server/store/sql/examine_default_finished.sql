-- The days of which the default partition of finished holds rows, and how many rows, at most 10 000 being looked at.
select (d.finished_at at time zone 'utc')::date as day, count(*) as jobs
from (select finished_at from atlasqueue.finished_default limit 10000) d
group by 1
order by 1

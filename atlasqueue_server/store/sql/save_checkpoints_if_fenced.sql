-- Keeps progress and checkpoint of leased jobs; what is null stays as it was. Guard: the fence.
insert into atlasqueue.checkpoints as c (queue, job_id, fence, percent, note, data)
select %(queue)s, u.job_id, u.fence, u.percent, u.note, u.data
from unnest(
    %(job_ids)s::uuid[], %(fences)s::bigint[], %(percents)s::smallint[], %(notes)s::text[], %(data)s::bytea[]
) as u (job_id, fence, percent, note, data),
lateral (
    select from atlasqueue.leased l
    where l.queue = %(queue)s and l.job_id = u.job_id and l.fence = u.fence limit 1 for update
) l
on conflict (queue, job_id) do update set
    fence = excluded.fence, percent = coalesce(excluded.percent, c.percent),
    note = coalesce(excluded.note, c.note), data = coalesce(excluded.data, c.data), updated_at = now()

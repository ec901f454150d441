-- Reads jobs of one queue whole: one statement, one snapshot, so each is in exactly one place in it.
-- No row for an id: there is no such job. The body's presence and the absence of any small row can only
-- mean a damaged database; state is null then. What may be large is left in its place unless asked for: a
-- thousand jobs may hold a gigabyte.
select
    j.queue, j.job_id::text, j.kind, case when %(whole)s then j.payload end as payload, j.headers::text, j.priority,
    coalesce(s.run_at, j.run_at) as run_at, j.deadline_ms,
    j.max_attempts, j.backoff_initial_ms, j.backoff_multiplier, j.backoff_cap_ms,
    case
        when s.fence is not null then 'scheduled'
        when r.fence is not null then 'ready'
        when l.fence is not null then 'leased'
        when x.fence is not null then 'dead'
        when f.state = 's' then 'succeeded'
        when f.state = 'c' then 'cancelled'
    end as state,
    coalesce(s.attempt, r.attempt, l.attempt, x.attempt, f.attempt) as attempt,
    coalesce(s.crashes, r.crashes, l.crashes, x.crashes, f.crashes) as crashes,
    coalesce(s.deliveries, r.deliveries, l.deliveries, x.deliveries, f.deliveries) as deliveries,
    coalesce(s.fence, r.fence, l.fence, x.fence, f.fence) as fence,
    j.created_at, f.finished_at, x.died_at, x.reason as dead_letter_reason,
    l.leased_at, l.session_id, coalesce(l.cancel_requested, false) as cancel_requested,
    case when %(whole)s then f.result end as result, c.percent, c.note,
    case when %(whole)s then c.data end as checkpoint
from unnest(%(job_ids)s::uuid[]) as u (job_id),
lateral (
    select * from atlasqueue.jobs j where j.queue = %(queue)s and j.job_id = u.job_id limit 1
) j
left join lateral (
    select * from atlasqueue.scheduled s where s.queue = j.queue and s.job_id = j.job_id limit 1
) s on true
left join lateral (
    select * from atlasqueue.ready r
    where r.queue = j.queue and r.priority = j.priority and r.seq = j.ready_seq and r.job_id = j.job_id
    union all
    select * from atlasqueue.ready r
    where r.queue = j.queue and r.job_id = j.job_id and r.cause <> 'e'
    limit 1
) r on true
left join lateral (
    select * from atlasqueue.leased l where l.queue = j.queue and l.job_id = j.job_id limit 1
) l on true
left join lateral (
    select * from atlasqueue.dead_letters x where x.queue = j.queue and x.job_id = j.job_id limit 1
) x on true
left join lateral (
    -- Not from before the body: an id whose old body is pruned may live again before its old day is dropped. A
    -- day of grace, should the database's clock have been set back.
    select * from atlasqueue.finished f where f.queue = j.queue and f.job_id = j.job_id
        and f.finished_at > j.created_at - interval '1 day' limit 1
) f on true
left join lateral (
    select * from atlasqueue.checkpoints c where c.queue = j.queue and c.job_id = j.job_id limit 1
) c on true

-- promote: scheduled → ready, of one queue. Guards: the leader's term, run_at has come. The floor on
-- run_at steps over the dead entries of jobs promoted before; now and then it is left out.
with locked as materialized (
    select s.ctid as tid
    from atlasqueue.scheduled s
    where s.queue = %(queue)s and s.run_at > %(run_at_floor)s and s.run_at <= now()
        and exists (
            select from atlasqueue.leader
            where term = %(term)s and holder = %(holder)s and expires_at > clock_timestamp()
            for key share
        )
    order by s.queue, s.run_at
    limit %(batch)s
    for update skip locked
),
taken as (
    delete from atlasqueue.scheduled s using locked where s.ctid = locked.tid returning s.*
),
to_ready as (
    insert into atlasqueue.ready (queue, priority, job_id, attempt, crashes, deliveries, fence, cause)
    select %(queue)s, priority, job_id, attempt, crashes, deliveries, fence, 'p'
    from taken order by run_at
),
delta as (
    insert into atlasqueue.depth_deltas (queue, scheduled, ready)
    select %(queue)s, -count(*), count(*) from taken having count(*) > 0
)
select count(*), max(run_at) from taken

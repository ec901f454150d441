-- Plain SQL: `select atlasqueue.enqueue(queue => 'mail', kind => 'welcome')` within the caller's own
-- transaction, so that the job exists exactly if that transaction commits. docs/sql.md is the manual.
--
-- Checks, defaults, idempotency and stored rows are those of the RPC Enqueue (rpc/validate.py,
-- store/sql/enqueue_jobs_if_new.sql). Every constant below has the name of a limit in model/limits.py,
-- and a test compares them.
--
-- The functions run as their owner: a producer's role needs EXECUTE on enqueue and nothing on the
-- tables, so that no guard can be gone round.

-- A UUID of version 7: 48 bits of milliseconds, 28672 = 7 << 12 for the version, 12 bits of the time
-- within the millisecond, then chance. So the ids of one connection sort by the order of their making.
create function atlasqueue.uuid7() returns uuid
language sql volatile
return (
    select encode(
        int8send(((t.us / 1000) << 16) | 28672 | (t.us % 1000 * 4096 / 1000))
        || substring(uuid_send(gen_random_uuid()) from 9),
        'hex'
    )::uuid
    from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint) as t (us)
);

-- The error for `reason`, which stands in DETAIL, as it stands in the ErrorInfo of an RPC.
create function atlasqueue.refuse(reason text, message text) returns void
language plpgsql
as $$
begin
    raise exception using
        message = refuse.message, detail = refuse.reason,
        errcode = case refuse.reason
            when 'INVALID_FIELD' then 'invalid_parameter_value'
            when 'JOB_ID_CONFLICT' then 'unique_violation'
            when 'TOO_MANY_QUEUES' then 'configuration_limit_exceeded'
            when 'OVERLOADED' then 'serialization_failure'
        end;
end
$$;

-- Names of queues that open transactions will create when they commit. Created at once, the name would
-- be locked until then, and every server that meets the same new name would wait for a stranger's
-- transaction. Empty but for transactions that are open.
create table atlasqueue.new_queues (
    name text not null
);

create function atlasqueue.create_new_queue() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    queues_max constant integer := 10000;
begin
    delete from atlasqueue.new_queues n where n.name = new.name;
    insert into atlasqueue.queues (name)
    select new.name
    where (select count(*) from atlasqueue.queues) < queues_max
        and not exists (select from atlasqueue.queues q where q.name = new.name)
    on conflict (name) do nothing;
    perform atlasqueue.refuse(
        'TOO_MANY_QUEUES',
        format('%s queues exist, no room for %s: reuse one of them', queues_max, new.name)
    )
    where not exists (select from atlasqueue.queues q where q.name = new.name);
    return null;
end
$$;

create constraint trigger new_queues_create after insert on atlasqueue.new_queues
deferrable initially deferred
for each row execute function atlasqueue.create_new_queue();

-- enqueue: ∅ → ready, or scheduled when run_at is in the future. Parameters are the fields of NewJob in
-- job.proto, those of its retry policy beside them; null is unset. Returns the job's id.
create function atlasqueue.enqueue(
    queue text,
    kind text,
    payload bytea default '',
    job_id uuid default null,
    headers jsonb default null,
    priority integer default null,
    run_at timestamptz default null,
    deadline interval default null,
    max_attempts integer default null,
    initial_backoff interval default null,
    multiplier double precision default null,
    max_backoff interval default null
) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- A session keeps its plans: one made while a table was small would walk it when it is large.
set enable_seqscan = off
as $$
declare
    name_pattern constant text := '[A-Za-z0-9][A-Za-z0-9._-]{0,127}';
    queues_max constant integer := 10000;
    payload_bytes_max constant integer := 1048576;
    headers_max constant integer := 32;
    headers_bytes_max constant integer := 8192;
    header_key_chars_max constant integer := 128;
    priority_min constant integer := 1;
    priority_default constant integer := 3;
    priority_max constant integer := 5;
    run_at_ahead_s_max constant integer := 315360000;
    deadline_s_min constant integer := 1;
    deadline_s_max constant integer := 604800;
    max_attempts_min constant integer := 1;
    max_attempts_max constant integer := 1000;
    backoff_initial_s_max constant integer := 3600;
    backoff_multiplier_min constant double precision := 1;
    backoff_multiplier_max constant double precision := 10;
    backoff_cap_s_max constant integer := 604800;
    rounds_max constant integer := 5;

    -- A transaction may be old, so that its now() is long past.
    called_at constant timestamptz := clock_timestamp();
    latest constant timestamptz := called_at + make_interval(secs => run_at_ahead_s_max);
    id constant uuid := coalesce(enqueue.job_id, atlasqueue.uuid7());
    body constant bytea := coalesce(enqueue.payload, '');
    urgency constant integer := coalesce(enqueue.priority, priority_default);
    header jsonb := enqueue.headers;
    broken text[] := '{}';
    entries integer;
    entries_bytes bigint;
    keys_fit boolean;
    all_text boolean;
    stored boolean;
    same boolean;
begin
    if enqueue.queue is null or enqueue.queue !~ ('^' || name_pattern || '$') then
        broken := broken || ('queue: must match ' || name_pattern);
    end if;
    if enqueue.kind is null or enqueue.kind !~ ('^' || name_pattern || '$') then
        broken := broken || ('kind: must match ' || name_pattern);
    end if;
    if octet_length(body) > payload_bytes_max then
        broken := broken || format(
            'payload: must be at most %s bytes, is %s', payload_bytes_max, octet_length(body)
        );
    end if;
    if enqueue.job_id = '00000000-0000-0000-0000-000000000000' then
        broken := broken || 'job_id: must be a UUID of 36 characters, not all zeros'::text;
    end if;
    if header = '{}' then
        header := null;
    elsif jsonb_typeof(header) <> 'object' then
        broken := broken || 'headers: must be an object whose values are strings'::text;
    elsif header is not null then
        select
            count(*), sum(octet_length(h.key) + octet_length(h.value #>> '{}')),
            bool_and(char_length(h.key) between 1 and header_key_chars_max),
            bool_and(jsonb_typeof(h.value) = 'string')
        into entries, entries_bytes, keys_fit, all_text
        from jsonb_each(header) as h (key, value);
        if not all_text then
            broken := broken || 'headers: must be an object whose values are strings'::text;
        end if;
        if entries > headers_max then
            broken := broken || format('headers: must hold at most %s entries', headers_max);
        end if;
        if entries_bytes > headers_bytes_max then
            broken := broken || format('headers: must be at most %s bytes in all', headers_bytes_max);
        end if;
        if not keys_fit then
            broken := broken
                || format('headers: keys must have 1 to %s characters', header_key_chars_max);
        end if;
    end if;
    if urgency not between priority_min and priority_max then
        broken := broken || format('priority: must be %s to %s', priority_min, priority_max);
    end if;
    if floor(extract(epoch from enqueue.run_at)) not between 0 and floor(extract(epoch from latest)) then
        broken := broken || format(
            'run_at: must be 1970-01-01T00:00:00Z to %s (10 years ahead)',
            to_char(latest at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        );
    end if;
    if extract(epoch from enqueue.deadline) not between deadline_s_min and deadline_s_max then
        broken := broken || format('deadline: must be %s s to %s s', deadline_s_min, deadline_s_max);
    end if;
    if enqueue.max_attempts not between max_attempts_min and max_attempts_max then
        broken := broken
            || format('max_attempts: must be %s to %s', max_attempts_min, max_attempts_max);
    end if;
    if extract(epoch from enqueue.initial_backoff) not between 0 and backoff_initial_s_max then
        broken := broken || format('initial_backoff: must be 0 s to %s s', backoff_initial_s_max);
    end if;
    -- NaN is above every number here, so it is refused.
    if enqueue.multiplier not between backoff_multiplier_min and backoff_multiplier_max then
        broken := broken
            || format('multiplier: must be %s to %s', backoff_multiplier_min, backoff_multiplier_max);
    end if;
    if extract(epoch from enqueue.max_backoff) not between 0 and backoff_cap_s_max then
        broken := broken || format('max_backoff: must be 0 s to %s s', backoff_cap_s_max);
    end if;
    if broken <> '{}' then
        perform atlasqueue.refuse('INVALID_FIELD', array_to_string(broken, '; '));
    end if;

    if not exists (select from atlasqueue.queues q where q.name = enqueue.queue)
        and not exists (select from atlasqueue.new_queues n where n.name = enqueue.queue)
    then
        if (select count(*) from atlasqueue.queues) + (select count(*) from atlasqueue.new_queues)
            >= queues_max
        then
            perform atlasqueue.refuse(
                'TOO_MANY_QUEUES',
                format('%s queues exist, no room for %s: reuse one of them', queues_max, enqueue.queue)
            );
        end if;
        insert into atlasqueue.new_queues (name) values (enqueue.queue);
    end if;

    for round in 1 .. rounds_max loop
        with new_job as (
            insert into atlasqueue.jobs as j (
                queue, job_id, kind, priority, payload, headers, run_at, created_at, deadline_ms,
                max_attempts, backoff_initial_ms, backoff_multiplier, backoff_cap_ms, ready_seq
            )
            values (
                enqueue.queue, id, enqueue.kind, urgency, body, header, enqueue.run_at, called_at,
                floor(extract(epoch from enqueue.deadline) * 1000), enqueue.max_attempts,
                floor(extract(epoch from enqueue.initial_backoff) * 1000), enqueue.multiplier,
                floor(extract(epoch from enqueue.max_backoff) * 1000),
                case
                    when enqueue.run_at is null or enqueue.run_at <= called_at
                        then nextval('atlasqueue.ready_seq')
                end
            )
            on conflict on constraint jobs_pkey do nothing
            returning j.ready_seq
        ),
        to_ready as (
            insert into atlasqueue.ready (
                queue, priority, seq, job_id, attempt, crashes, deliveries, fence, cause
            )
            select enqueue.queue, urgency, n.ready_seq, id, 0, 0, 0, 0, 'e'
            from new_job n where n.ready_seq is not null
        ),
        to_scheduled as (
            insert into atlasqueue.scheduled (
                queue, job_id, run_at, priority, attempt, crashes, deliveries, fence, cause
            )
            select enqueue.queue, id, enqueue.run_at, urgency, 0, 0, 0, 0, 'e'
            from new_job n where n.ready_seq is null
        ),
        delta as (
            insert into atlasqueue.depth_deltas (queue, scheduled, ready)
            select
                enqueue.queue, (n.ready_seq is null)::integer, (n.ready_seq is not null)::integer
            from new_job n
        )
        select count(*) > 0 into stored from new_job;
        if stored then
            return id;
        end if;

        -- A new statement, because the row in the way may be younger than the one before could see.
        -- Headers of tracing are no part of the body.
        select
            (
                j.kind, j.priority, j.payload, j.run_at, j.deadline_ms,
                j.max_attempts, j.backoff_initial_ms, j.backoff_multiplier, j.backoff_cap_ms
            ) is not distinct from (
                enqueue.kind, urgency, body, enqueue.run_at,
                floor(extract(epoch from enqueue.deadline) * 1000), enqueue.max_attempts,
                floor(extract(epoch from enqueue.initial_backoff) * 1000), enqueue.multiplier,
                floor(extract(epoch from enqueue.max_backoff) * 1000)
            )
            and coalesce(j.headers, '{}') - array['traceparent', 'tracestate', 'baggage']
                = coalesce(header, '{}') - array['traceparent', 'tracestate', 'baggage']
        into same
        from atlasqueue.jobs j where j.queue = enqueue.queue and j.job_id = id;
        if same then
            return id;
        end if;
        if not same then
            perform atlasqueue.refuse(
                'JOB_ID_CONFLICT',
                format(
                    'job %s exists in queue %s with another body: make a new id', id, enqueue.queue
                )
            );
        end if;
        -- The row in the way has gone: its writer rolled back, or it was pruned.
    end loop;
    perform atlasqueue.refuse(
        'OVERLOADED', 'too many calls enqueue the same ids at once; repeat with backoff'
    );
end
$$;

revoke all on function
    atlasqueue.uuid7(), atlasqueue.refuse(text, text), atlasqueue.create_new_queue(),
    atlasqueue.enqueue(
        text, text, bytea, uuid, jsonb, integer, timestamptz, interval, integer, interval,
        double precision, interval
    )
from public;

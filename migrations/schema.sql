-- The sum of migrations/*.sql, for readers. Written by scripts/dump_schema.py (`make generate`);
-- do not edit: `make verify` and a test prove that it is what the migrations make.

CREATE SCHEMA atlasqueue;

CREATE FUNCTION atlasqueue.backoff(failures integer, initial_ms integer, multiplier double precision, cap_ms integer) RETURNS interval
    LANGUAGE sql
    RETURN make_interval(secs => ((random() * LEAST((cap_ms)::double precision, ((initial_ms)::double precision * power(multiplier, (LEAST((failures - 1), 64))::double precision)))) / (1000)::double precision));

CREATE FUNCTION atlasqueue.create_new_queue() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION atlasqueue.enqueue(queue text, kind text, payload bytea DEFAULT '\x'::bytea, job_id uuid DEFAULT NULL::uuid, headers jsonb DEFAULT NULL::jsonb, priority integer DEFAULT NULL::integer, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, deadline interval DEFAULT NULL::interval, max_attempts integer DEFAULT NULL::integer, initial_backoff interval DEFAULT NULL::interval, multiplier double precision DEFAULT NULL::double precision, max_backoff interval DEFAULT NULL::interval) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $_$
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
$_$;

CREATE FUNCTION atlasqueue.refuse(reason text, message text) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION atlasqueue.uuid7() RETURNS uuid
    LANGUAGE sql
    RETURN (SELECT (encode((int8send(((((t.us / 1000) << 16) | (28672)::bigint) | (((t.us % (1000)::bigint) * 4096) / 1000))) || SUBSTRING(uuid_send(gen_random_uuid()) FROM 9)), 'hex'::text))::uuid AS encode FROM (SELECT ((EXTRACT(epoch FROM clock_timestamp()) * (1000000)::numeric))::bigint AS int8) t(us));

CREATE TABLE atlasqueue.checkpoints (
    job_id uuid NOT NULL,
    fence bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    percent smallint,
    queue text NOT NULL,
    note text,
    data bytea
);

CREATE TABLE atlasqueue.dead_letters (
    job_id uuid NOT NULL,
    died_at timestamp with time zone DEFAULT now() NOT NULL,
    fence bigint NOT NULL,
    deliveries integer NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    priority smallint NOT NULL,
    reason "char" NOT NULL,
    queue text NOT NULL
);

CREATE TABLE atlasqueue.depth_deltas (
    scheduled integer DEFAULT 0 NOT NULL,
    ready integer DEFAULT 0 NOT NULL,
    leased integer DEFAULT 0 NOT NULL,
    dead integer DEFAULT 0 NOT NULL,
    succeeded integer DEFAULT 0 NOT NULL,
    cancelled integer DEFAULT 0 NOT NULL,
    queue text NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

CREATE TABLE atlasqueue.depths (
    scheduled bigint DEFAULT 0 NOT NULL,
    ready bigint DEFAULT 0 NOT NULL,
    leased bigint DEFAULT 0 NOT NULL,
    dead bigint DEFAULT 0 NOT NULL,
    succeeded bigint DEFAULT 0 NOT NULL,
    cancelled bigint DEFAULT 0 NOT NULL,
    queue text NOT NULL
);

CREATE TABLE atlasqueue.failures (
    job_id uuid NOT NULL,
    fence bigint NOT NULL,
    failed_at timestamp with time zone DEFAULT now() NOT NULL,
    attempt smallint NOT NULL,
    cause "char" NOT NULL,
    final boolean NOT NULL,
    queue text NOT NULL,
    error_type text,
    error_message text,
    error_stack text
);

CREATE SEQUENCE atlasqueue.fence_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE atlasqueue.finished (
    job_id uuid NOT NULL,
    finished_at timestamp with time zone DEFAULT now() NOT NULL,
    fence bigint NOT NULL,
    deliveries integer NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    state "char" NOT NULL,
    queue text NOT NULL,
    result bytea,
    CONSTRAINT finished_state CHECK ((state = ANY (ARRAY['s'::"char", 'c'::"char"])))
)
PARTITION BY RANGE (finished_at);

CREATE TABLE atlasqueue.finished_default (
    job_id uuid CONSTRAINT finished_job_id_not_null NOT NULL,
    finished_at timestamp with time zone DEFAULT now() CONSTRAINT finished_finished_at_not_null NOT NULL,
    fence bigint CONSTRAINT finished_fence_not_null NOT NULL,
    deliveries integer CONSTRAINT finished_deliveries_not_null NOT NULL,
    attempt smallint CONSTRAINT finished_attempt_not_null NOT NULL,
    crashes smallint CONSTRAINT finished_crashes_not_null NOT NULL,
    state "char" CONSTRAINT finished_state_not_null NOT NULL,
    queue text CONSTRAINT finished_queue_not_null NOT NULL,
    result bytea,
    CONSTRAINT finished_state CHECK ((state = ANY (ARRAY['s'::"char", 'c'::"char"])))
);

CREATE TABLE atlasqueue.jobs (
    job_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    run_at timestamp with time zone,
    ready_seq bigint,
    backoff_multiplier double precision,
    deadline_ms integer,
    backoff_initial_ms integer,
    backoff_cap_ms integer,
    max_attempts smallint,
    priority smallint NOT NULL,
    queue text NOT NULL,
    kind text NOT NULL,
    headers jsonb,
    payload bytea NOT NULL,
    CONSTRAINT jobs_priority_bounds CHECK (((priority >= 1) AND (priority <= 5)))
);

CREATE TABLE atlasqueue.leader (
    one boolean DEFAULT true NOT NULL,
    term bigint NOT NULL,
    holder text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ticked_at timestamp with time zone NOT NULL,
    CONSTRAINT leader_one CHECK (one)
);

CREATE TABLE atlasqueue.leased (
    job_id uuid NOT NULL,
    fence bigint NOT NULL,
    session_id bigint NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    deadline_at timestamp with time zone,
    deliveries integer NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    priority smallint NOT NULL,
    cancel_requested boolean DEFAULT false NOT NULL,
    queue text NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', autovacuum_vacuum_insert_threshold='-1', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='2000000000');

CREATE TABLE atlasqueue.migrations (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE atlasqueue.new_queues (
    name text NOT NULL
);

CREATE TABLE atlasqueue.queues (
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    backoff_multiplier double precision,
    backoff_initial_ms integer,
    backoff_cap_ms integer,
    visibility_timeout_ms integer,
    max_attempts smallint,
    paused boolean DEFAULT false NOT NULL
);

CREATE SEQUENCE atlasqueue.ready_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE atlasqueue.ready (
    job_id uuid NOT NULL,
    seq bigint DEFAULT nextval('atlasqueue.ready_seq'::regclass) NOT NULL,
    fence bigint NOT NULL,
    deliveries integer NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    priority smallint NOT NULL,
    cause "char" NOT NULL,
    queue text NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', autovacuum_vacuum_insert_threshold='-1', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='2000000000');

CREATE TABLE atlasqueue.scheduled (
    job_id uuid NOT NULL,
    run_at timestamp with time zone NOT NULL,
    fence bigint NOT NULL,
    deliveries integer NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    priority smallint NOT NULL,
    cause "char" NOT NULL,
    queue text NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='2000000000');

CREATE TABLE atlasqueue.servers (
    server_id text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    address text NOT NULL,
    version text NOT NULL,
    clock_offset_ms bigint
);

CREATE SEQUENCE atlasqueue.session_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE atlasqueue.sessions (
    session_id bigint DEFAULT nextval('atlasqueue.session_seq'::regclass) NOT NULL,
    epoch bigint NOT NULL,
    opened_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    visibility_timeout_ms integer NOT NULL,
    slots integer NOT NULL,
    streaming boolean NOT NULL,
    lost boolean DEFAULT false NOT NULL,
    server_id text NOT NULL,
    worker text NOT NULL,
    queues text[] NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY atlasqueue.finished ATTACH PARTITION atlasqueue.finished_default DEFAULT;

ALTER TABLE ONLY atlasqueue.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (queue, job_id);

ALTER TABLE ONLY atlasqueue.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (queue, job_id);

ALTER TABLE ONLY atlasqueue.depths
    ADD CONSTRAINT depths_pkey PRIMARY KEY (queue);

ALTER TABLE ONLY atlasqueue.failures
    ADD CONSTRAINT failures_pkey PRIMARY KEY (queue, job_id, fence);

ALTER TABLE ONLY atlasqueue.finished
    ADD CONSTRAINT finished_pkey PRIMARY KEY (queue, job_id, finished_at);

ALTER TABLE ONLY atlasqueue.finished_default
    ADD CONSTRAINT finished_default_pkey PRIMARY KEY (queue, job_id, finished_at);

ALTER TABLE ONLY atlasqueue.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (queue, job_id);

ALTER TABLE ONLY atlasqueue.leader
    ADD CONSTRAINT leader_pkey PRIMARY KEY (one);

ALTER TABLE ONLY atlasqueue.leased
    ADD CONSTRAINT leased_pkey PRIMARY KEY (queue, job_id);

ALTER TABLE ONLY atlasqueue.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY atlasqueue.queues
    ADD CONSTRAINT queues_pkey PRIMARY KEY (name);

ALTER TABLE ONLY atlasqueue.scheduled
    ADD CONSTRAINT scheduled_pkey PRIMARY KEY (queue, job_id);

ALTER TABLE ONLY atlasqueue.servers
    ADD CONSTRAINT servers_pkey PRIMARY KEY (server_id);

ALTER TABLE ONLY atlasqueue.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (session_id);

CREATE INDEX dead_letters_prune ON atlasqueue.dead_letters USING btree (died_at);

CREATE UNIQUE INDEX leader_term ON atlasqueue.leader USING btree (term);

CREATE INDEX leased_cancel ON atlasqueue.leased USING btree (session_id) WHERE cancel_requested;

CREATE INDEX leased_deadline ON atlasqueue.leased USING btree (deadline_at) WHERE (deadline_at IS NOT NULL);

CREATE INDEX leased_session ON atlasqueue.leased USING btree (session_id, fence);

CREATE UNIQUE INDEX ready_cancel ON atlasqueue.ready USING btree (queue, job_id) WHERE (cause <> 'e'::"char");

CREATE UNIQUE INDEX ready_lease ON atlasqueue.ready USING btree (queue, priority, seq);

CREATE INDEX scheduled_promote ON atlasqueue.scheduled USING btree (queue, run_at);

ALTER INDEX atlasqueue.finished_pkey ATTACH PARTITION atlasqueue.finished_default_pkey;

CREATE CONSTRAINT TRIGGER new_queues_create AFTER INSERT ON atlasqueue.new_queues DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION atlasqueue.create_new_queue();

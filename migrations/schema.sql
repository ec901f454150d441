-- The sum of migrations/*.sql, for readers. Written by scripts/dump_schema.py (`make generate`);
-- do not edit: `make verify` and a test prove that it is what the migrations make.

CREATE SCHEMA atlasqueue;

CREATE FUNCTION atlasqueue.backoff(failures integer, initial_ms integer, multiplier double precision, cap_ms integer) RETURNS interval
    LANGUAGE sql
    RETURN make_interval(secs => ((random() * LEAST((cap_ms)::double precision, ((initial_ms)::double precision * power(multiplier, (LEAST((failures - 1), 64))::double precision)))) / (1000)::double precision));

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

CREATE INDEX leased_cancel ON atlasqueue.leased USING btree (session_id) WHERE cancel_requested;

CREATE INDEX leased_deadline ON atlasqueue.leased USING btree (deadline_at) WHERE (deadline_at IS NOT NULL);

CREATE INDEX leased_session ON atlasqueue.leased USING btree (session_id, fence);

CREATE UNIQUE INDEX ready_cancel ON atlasqueue.ready USING btree (queue, job_id) WHERE (cause <> 'e'::"char");

CREATE UNIQUE INDEX ready_lease ON atlasqueue.ready USING btree (queue, priority, seq);

CREATE INDEX scheduled_promote ON atlasqueue.scheduled USING btree (queue, run_at);

ALTER INDEX atlasqueue.finished_pkey ATTACH PARTITION atlasqueue.finished_default_pkey;

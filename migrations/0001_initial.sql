-- One table per state. A job's body is written once, in jobs; where the job stands is the table in
-- which its small row sits; a move is one statement that deletes there and inserts here.
--
--   jobs                                    the body, from enqueue to prune or purge
--   scheduled ready leased dead_letters     exactly one small row of a job that is not finished
--   finished                                exactly one row of a job that is; partitioned by day
--   failures checkpoints                    what attempts left behind
--   sessions queues leader servers          who works, on what, and who leads
--   depth_deltas depths                     how many stand where, without counting
--
-- Every small row carries the same counters: attempt (failures), crashes (leases lost), deliveries
-- (leases granted) and fence (the last lease's fence, 0 before the first).
-- cause says which verb brought the row in: e enqueue, p promote, f fail, s snooze, l release,
-- c reconcile, x expire, d deadline, k unknown kind, r redrive.

create schema if not exists atlasqueue;

create table atlasqueue.migrations (
    version integer not null,
    name text not null,
    applied_at timestamptz not null default now(),
    constraint migrations_pkey primary key (version)
);

-- CACHE 1 is load-bearing: a cached fence sequence makes the fences of one job fall, a cached ready
-- sequence puts jobs behind the watermark.
create sequence atlasqueue.ready_seq cache 1;
create sequence atlasqueue.fence_seq cache 1;
create sequence atlasqueue.session_seq cache 1;

-- ready_seq: the place in ready of a job that was ready when it was enqueued, by which it is found there
-- until its first lease; null when it was scheduled.
create table atlasqueue.jobs (
    job_id uuid not null,
    created_at timestamptz not null default now(),
    run_at timestamptz,
    ready_seq bigint,
    backoff_multiplier double precision,
    deadline_ms integer,
    backoff_initial_ms integer,
    backoff_cap_ms integer,
    max_attempts smallint,
    priority smallint not null,
    queue text not null,
    kind text not null,
    headers jsonb,
    payload bytea not null,
    constraint jobs_pkey primary key (queue, job_id),
    constraint jobs_priority_bounds check (priority between 1 and 5)
);

create table atlasqueue.scheduled (
    job_id uuid not null,
    run_at timestamptz not null,
    fence bigint not null,
    deliveries integer not null,
    attempt smallint not null,
    crashes smallint not null,
    priority smallint not null,
    cause "char" not null,
    queue text not null,
    constraint scheduled_pkey primary key (queue, job_id)
);
create index scheduled_promote on atlasqueue.scheduled (queue, run_at);

create table atlasqueue.ready (
    job_id uuid not null,
    seq bigint not null default nextval('atlasqueue.ready_seq'),
    fence bigint not null,
    deliveries integer not null,
    attempt smallint not null,
    crashes smallint not null,
    priority smallint not null,
    cause "char" not null,
    queue text not null
);
create unique index ready_lease on atlasqueue.ready (queue, priority, seq);
-- Jobs straight from enqueue, which are most, are found by jobs.ready_seq and need no second entry.
create unique index ready_cancel on atlasqueue.ready (queue, job_id) where cause <> 'e';

create table atlasqueue.leased (
    job_id uuid not null,
    fence bigint not null,
    session_id bigint not null,
    leased_at timestamptz not null,
    deadline_at timestamptz,
    deliveries integer not null,
    attempt smallint not null,
    crashes smallint not null,
    priority smallint not null,
    cancel_requested boolean not null default false,
    queue text not null,
    constraint leased_pkey primary key (queue, job_id)
);
create index leased_session on atlasqueue.leased (session_id, fence);
create index leased_deadline on atlasqueue.leased (deadline_at) where deadline_at is not null;

create table atlasqueue.dead_letters (
    job_id uuid not null,
    died_at timestamptz not null default now(),
    fence bigint not null,
    deliveries integer not null,
    attempt smallint not null,
    crashes smallint not null,
    priority smallint not null,
    reason "char" not null,
    queue text not null,
    constraint dead_letters_pkey primary key (queue, job_id)
);
create index dead_letters_prune on atlasqueue.dead_letters (died_at);

-- Insert-only; retention is DROP of a day.
create table atlasqueue.finished (
    job_id uuid not null,
    finished_at timestamptz not null default now(),
    fence bigint not null,
    deliveries integer not null,
    attempt smallint not null,
    crashes smallint not null,
    state "char" not null,
    queue text not null,
    result bytea,
    constraint finished_pkey primary key (queue, job_id, finished_at),
    constraint finished_state check (state in ('s', 'c'))
) partition by range (finished_at);
-- Takes what no day covers, so that a server whose partition loop is late loses nothing.
create table atlasqueue.finished_default partition of atlasqueue.finished default;

create table atlasqueue.failures (
    job_id uuid not null,
    fence bigint not null,
    failed_at timestamptz not null default now(),
    attempt smallint not null,
    cause "char" not null,
    final boolean not null,
    queue text not null,
    error_type text,
    error_message text,
    error_stack text,
    constraint failures_pkey primary key (queue, job_id, fence)
);

create table atlasqueue.checkpoints (
    job_id uuid not null,
    fence bigint not null,
    updated_at timestamptz not null default now(),
    percent smallint,
    queue text not null,
    note text,
    data bytea,
    constraint checkpoints_pkey primary key (queue, job_id)
);

-- One row a worker; a heartbeat updates it and nothing else. lost is a one-way door: once set, no
-- heartbeat can bring the session back.
create table atlasqueue.sessions (
    session_id bigint not null default nextval('atlasqueue.session_seq'),
    epoch bigint not null,
    opened_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    visibility_timeout_ms integer not null,
    slots integer not null,
    streaming boolean not null,
    lost boolean not null default false,
    server_id text not null,
    worker text not null,
    queues text[] not null,
    constraint sessions_pkey primary key (session_id)
) with (fillfactor = 50);

create table atlasqueue.queues (
    name text not null,
    created_at timestamptz not null default now(),
    backoff_multiplier double precision,
    backoff_initial_ms integer,
    backoff_cap_ms integer,
    visibility_timeout_ms integer,
    max_attempts smallint,
    paused boolean not null default false,
    constraint queues_pkey primary key (name)
);

-- One row. Leadership is its term: renewed and resigned by term, checked by every statement of the
-- scheduler.
create table atlasqueue.leader (
    one boolean not null default true,
    term bigint not null,
    holder text not null,
    expires_at timestamptz not null,
    ticked_at timestamptz not null,
    constraint leader_pkey primary key (one),
    constraint leader_one check (one)
);

create table atlasqueue.servers (
    server_id text not null,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp(),
    address text not null,
    version text not null,
    constraint servers_pkey primary key (server_id)
);

-- Depth by state: every statement appends one row of deltas (not one a job), the leader folds them.
create table atlasqueue.depth_deltas (
    scheduled integer not null default 0,
    ready integer not null default 0,
    leased integer not null default 0,
    dead integer not null default 0,
    succeeded integer not null default 0,
    cancelled integer not null default 0,
    queue text not null
);
create table atlasqueue.depths (
    scheduled bigint not null default 0,
    ready bigint not null default 0,
    leased bigint not null default 0,
    dead bigint not null default 0,
    succeeded bigint not null default 0,
    cancelled bigint not null default 0,
    queue text not null,
    constraint depths_pkey primary key (queue)
);

-- Exponential backoff with full jitter; failures counts from 1. The specification is
-- atlasqueue_server/model/retry.py.
create function atlasqueue.backoff(
    failures integer, initial_ms integer, multiplier double precision, cap_ms integer
) returns interval
language sql volatile
return make_interval(
    secs => random() * least(cap_ms, initial_ms * power(multiplier, least(failures - 1, 64))) / 1000
);

-- Small tables with a high turnover: vacuum by number of dead rows, never by share, and do not let
-- ANALYZE see them empty (the plan would change under load).
alter table atlasqueue.ready set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000000000
);
alter table atlasqueue.leased set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000000000
);
alter table atlasqueue.scheduled set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000000000
);
alter table atlasqueue.sessions set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
alter table atlasqueue.depth_deltas set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

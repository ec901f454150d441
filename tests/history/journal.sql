-- The journal of moves, for tests only: triggers note every arrival of a job in a place, every row of
-- the leader and every session that is opened or lost, inside of the transaction that makes them.
-- began is when the statement reached PostgreSQL, at when the row was written; actor is the role, and in
-- the chaos runs every server has a role of its own.
create schema journal;

create table journal.moves (
    id bigint generated always as identity primary key,
    queue text not null,
    job_id uuid not null,
    place text not null,
    cause "char",
    fence bigint,
    deliveries integer,
    session_id bigint,
    result text,
    began timestamptz not null default statement_timestamp(),
    at timestamptz not null default clock_timestamp(),
    actor text not null default session_user
);

create table journal.terms (
    id bigint generated always as identity primary key,
    term bigint not null,
    holder text not null,
    ticked_at timestamptz not null,
    began timestamptz not null default statement_timestamp(),
    at timestamptz not null default clock_timestamp(),
    actor text not null default session_user
);

create table journal.sessions (
    id bigint generated always as identity primary key,
    session_id bigint not null,
    worker text not null,
    visibility_timeout_ms integer not null,
    lost boolean not null,
    began timestamptz not null default statement_timestamp(),
    at timestamptz not null default clock_timestamp(),
    actor text not null default session_user
);

grant usage on schema journal to public;
grant insert, select on all tables in schema journal to public;

create function journal.note_scheduled() returns trigger language plpgsql as $$
begin
    insert into journal.moves (queue, job_id, place, cause, fence, deliveries)
    select queue, job_id, 'scheduled', cause, fence, deliveries from arrived;
    return null;
end $$;
create trigger journal after insert on atlasqueue.scheduled
referencing new table as arrived for each statement execute function journal.note_scheduled();

create function journal.note_ready() returns trigger language plpgsql as $$
begin
    insert into journal.moves (queue, job_id, place, cause, fence, deliveries)
    select queue, job_id, 'ready', cause, fence, deliveries from arrived;
    return null;
end $$;
create trigger journal after insert on atlasqueue.ready
referencing new table as arrived for each statement execute function journal.note_ready();

create function journal.note_leased() returns trigger language plpgsql as $$
begin
    insert into journal.moves (queue, job_id, place, fence, deliveries, session_id)
    select queue, job_id, 'leased', fence, deliveries, session_id from arrived;
    return null;
end $$;
create trigger journal after insert on atlasqueue.leased
referencing new table as arrived for each statement execute function journal.note_leased();

create function journal.note_dead() returns trigger language plpgsql as $$
begin
    insert into journal.moves (queue, job_id, place, cause, fence, deliveries)
    select queue, job_id, 'dead', reason, fence, deliveries from arrived;
    return null;
end $$;
create trigger journal after insert on atlasqueue.dead_letters
referencing new table as arrived for each statement execute function journal.note_dead();

create function journal.note_finished() returns trigger language plpgsql as $$
begin
    insert into journal.moves (queue, job_id, place, fence, deliveries, result)
    select
        queue, job_id, case state when 's' then 'succeeded' else 'cancelled' end, fence, deliveries,
        left(encode(sha256(coalesce(result, '')), 'hex'), 16)
    from arrived;
    return null;
end $$;
create trigger journal after insert on atlasqueue.finished
referencing new table as arrived for each statement execute function journal.note_finished();

create function journal.note_gone() returns trigger language plpgsql as $$
begin
    insert into journal.moves (queue, job_id, place) select queue, job_id, 'gone' from departed;
    return null;
end $$;
create trigger journal after delete on atlasqueue.jobs
referencing old table as departed for each statement execute function journal.note_gone();

create function journal.note_term() returns trigger language plpgsql as $$
begin
    insert into journal.terms (term, holder, ticked_at) values (new.term, new.holder, new.ticked_at);
    return null;
end $$;
create trigger journal after insert or update on atlasqueue.leader
for each row execute function journal.note_term();

create function journal.note_session() returns trigger language plpgsql as $$
begin
    insert into journal.sessions (session_id, worker, visibility_timeout_ms, lost)
    values (new.session_id, new.worker, new.visibility_timeout_ms, new.lost);
    return null;
end $$;
create trigger journal_opened after insert on atlasqueue.sessions
for each row execute function journal.note_session();
create trigger journal_changed after update on atlasqueue.sessions for each row
when (new.lost is distinct from old.lost or new.visibility_timeout_ms <> old.visibility_timeout_ms)
execute function journal.note_session();

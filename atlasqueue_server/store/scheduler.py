"""Statements of the scheduler: each checks the leader's term in its WHERE."""

from __future__ import annotations

from datetime import date, datetime
from typing import NamedTuple

from psycopg import errors, sql

from atlasqueue_server.model import limits
from atlasqueue_server.store.database import Connection, Database, Row, fetch, send
from atlasqueue_server.store.report import POLICY_DEFAULTS
from atlasqueue_server.store.statements import statement

# Whoever waits for a table's lock makes all later ones wait: every report, every look at a job.
DDL_LOCK_WAIT = "250ms"
GRACE_S = 60
# Longer than any job can have been due.
ALL_TIME_S = 1e9


class FinishedInUse(Exception):
    """Others use the table `finished`, a backup perhaps: the DDL changed nothing, and is for later."""


class Term(NamedTuple):
    """A term of leadership."""

    term: int
    holder: str

    @property
    def params(self) -> dict[str, object]:
        """As parameters of a statement."""
        return {"term": self.term, "holder": self.holder}


async def take_leadership_if_free(database: Database, holder: str, lease_s: float) -> Term | None:
    """A new term; None: somebody else leads."""
    rows = await database.run("take_leadership_if_free", {"holder": holder, "lease_s": lease_s})
    return Term(rows[0][0], holder) if rows else None


async def renew_leadership_if_leader(database: Database, term: Term, lease_s: float) -> bool:
    """Whether the caller still leads."""
    rows = await database.run("renew_leadership_if_leader", term.params | {"lease_s": lease_s})
    return bool(rows)


async def resign_leadership_if_leader(database: Database, term: Term) -> None:
    """Ends the term at once."""
    await database.run("resign_leadership_if_leader", term.params)


class Ahead(NamedTuple):
    """What the scheduler has to do next. `due_in_s`: until the next job is due; None: none is known."""

    to_expire: bool
    overdue: bool
    to_fold: bool
    due_in_s: float | None


async def tick_if_leader(
    database: Database, term: Term, lease_s: float, outage_s: float, window_s: float = ALL_TIME_S
) -> Ahead | None:
    """Notes that the scheduler works now, renews the leader's lease, and looks ahead, at scheduled jobs
    due for up to `window_s`.

    None: the term is over, or the last tick is an outage ago.
    """
    params = term.params | {"lease_s": lease_s, "outage_s": outage_s, "window_s": window_s}
    rows = await database.run("tick_if_leader", params)
    return Ahead(*rows[0]) if rows else None


class Outage(NamedTuple):
    """How long nobody ticked, and what was extended by that."""

    gap_s: float
    sessions: int
    deadlines: int


async def extend_by_outage_if_leader(
    database: Database, term: Term, outage_s: float
) -> Outage | None:
    """Grants the outage grace and ticks; None: the term is over, or there was no such outage."""
    params = term.params | {"outage_s": outage_s}
    # Every session and every deadline in one statement: it may take longer than others.
    async with database.connection(GRACE_S + 2) as connection, connection.transaction():
        await _set_here(connection, "statement_timeout", f"{GRACE_S}s")
        rows = await fetch(await send(connection, "extend_by_outage_if_leader", params))
    return Outage(*rows[0]) if rows else None


async def lose_sessions_if_leader(database: Database, term: Term, batch: int) -> list[Row]:
    """(session_id, worker) of sessions that are lost from now on. Nothing is lost without a recent tick."""
    params = {"batch": batch, "ticked_within_s": limits.TICKED_WITHIN_S}
    return await database.run("lose_sessions_if_leader", term.params | params)


async def expire_leases_if_leader(database: Database, term: Term, batch: int) -> list[Row]:
    """(queue, job_id, fence, state) of leases of lost sessions that expired."""
    params = term.params | POLICY_DEFAULTS | {"batch": batch, "crash_cap": limits.CRASH_CAP}
    return await database.run("expire_leases_if_leader", params)


async def fail_overdue_jobs_if_leader(database: Database, term: Term, batch: int) -> list[Row]:
    """(queue, job_id, session_id, fence, state) of jobs that ran past their deadline."""
    params = term.params | POLICY_DEFAULTS
    params |= {"batch": batch, "ticked_within_s": limits.TICKED_WITHIN_S}
    return await database.run("fail_overdue_jobs_if_leader", params)


async def adopt_orphans_if_leader(database: Database, term: Term) -> None:
    """Leases without a session row get a lost one."""
    await database.run("adopt_orphans_if_leader", term.params)


async def delete_lost_sessions_if_leader(database: Database, term: Term, batch: int = 1000) -> int:
    """Forgets lost sessions that hold nothing; how many."""
    return len(await database.run("delete_lost_sessions_if_leader", term.params | {"batch": batch}))


async def forget_dead_servers_if_leader(database: Database, term: Term) -> None:
    """Forgets servers that have not been seen for a minute."""
    await database.run("forget_dead_servers_if_leader", term.params)


async def find_due_queues(
    database: Database, after: str = "", most: int = 100, window_s: float = ALL_TIME_S
) -> list[str]:
    """Up to `most` queues with jobs that have been due for up to `window_s`, by name, above `after`."""
    params = {"after": after, "most": most, "window_s": window_s}
    return [row[0] for row in await database.run("find_due_queues", params)]


async def promote_jobs_if_leader(
    database: Database, term: Term, queue: str, run_at_floor: datetime, batch: int
) -> tuple[int, datetime | None]:
    """How many were promoted, and the last run_at among them."""
    params = term.params | {"queue": queue, "run_at_floor": run_at_floor, "batch": batch}
    rows = await database.run("promote_jobs_if_leader", params)
    return rows[0][0], rows[0][1]


async def fold_depths_if_leader(database: Database, term: Term, batch: int = 10_000) -> int:
    """Folds depth deltas; how many."""
    rows = await database.run("fold_depths_if_leader", term.params | {"batch": batch})
    return int(rows[0][0])


async def list_finished_partitions(database: Database) -> tuple[list[str], date]:
    """The names of the days of finished, and today by the database's clock."""
    rows = await database.run("list_finished_partitions")
    return sorted(row[0] for row in rows if row[0]), rows[0][1]


async def create_finished_partition_if_leader(
    database: Database, term: Term, name: str, lower: date, upper: date
) -> bool:
    """A day of finished; False: jobs of that day stand in the default partition, which keeps them.

    The name is the server's own. Nothing is made under an old term. Raises FinishedInUse.
    """
    try:
        await _run_named(
            database,
            term,
            "create_finished_partition",
            name,
            lower=lower.isoformat(),
            upper=upper.isoformat(),
        )
    except errors.CheckViolation:
        return False
    except (errors.DuplicateTable, errors.UniqueViolation):
        # IF NOT EXISTS looks before it makes: somebody else was there in between.
        return True
    return True


async def drop_finished_partition_if_leader(database: Database, term: Term, name: str) -> bool:
    """Drops a day of finished; False: the term is over. The name is the server's own. Raises FinishedInUse."""
    return await _run_named(database, term, "drop_finished_partition", name)


async def _run_named(
    database: Database, term: Term, statement_name: str, name: str, **literals: str
) -> bool:
    """DDL has no WHERE: the term is checked and held by a row lock in the same transaction."""
    parts: dict[str, sql.Composable] = {"name": sql.Identifier(name)}
    parts |= {key: sql.Literal(f"{value}T00:00:00Z") for key, value in literals.items()}
    ddl = sql.SQL(statement(statement_name).decode()).format(**parts)
    async with database.connection() as connection:
        try:
            async with connection.transaction():
                await _set_here(connection, "lock_timeout", DDL_LOCK_WAIT)
                if not await fetch(await send(connection, "lock_term_if_leader", term.params)):
                    return False
                await connection.execute(ddl)
        except errors.LockNotAvailable as error:
            raise FinishedInUse from error
    return True


async def _set_here(connection: Connection, name: str, setting: str) -> None:
    await send(connection, "set_for_transaction", {"name": name, "setting": setting})


async def find_finished_to_prune(
    database: Database, before: date, after: tuple[str, str], batch: int
) -> list[tuple[str, str]]:
    """Up to `batch` (queue, job_id) above `after` that finished before the day."""
    rows = await database.run(
        "find_finished_to_prune",
        {
            "before": before,
            "after_queue": after[0],
            "after_job_id": after[1],
            "batch": batch,
        },
    )
    return [(row[0], row[1]) for row in rows]


async def prune_bodies_if_leader(
    database: Database, term: Term, queue: str, job_ids: list[str], before: date
) -> int:
    """Deletes bodies, failures and checkpoints of finished jobs; how many bodies."""
    params = term.params | {"queue": queue, "job_ids": job_ids, "before": before}
    return int((await database.run("prune_bodies_if_leader", params))[0][0])


async def delete_default_finished_if_leader(
    database: Database, term: Term, before: date, batch: int
) -> int:
    """Deletes old finished rows that no day covers; how many."""
    params = term.params | {"before": before, "batch": batch}
    return len(await database.run("delete_default_finished_if_leader", params))


async def prune_dead_letters_if_leader(
    database: Database, term: Term, retention_days: int, batch: int
) -> int:
    """Deletes dead letters past their retention; how many."""
    params = term.params | {"retention_days": retention_days, "batch": batch}
    return int((await database.run("prune_dead_letters_if_leader", params))[0][0])

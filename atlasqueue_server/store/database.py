"""The pool of connections, and how a statement runs on it.

Every connection pins the plans of the hot statements: with the planner's defaults a lease becomes a
sequential scan and a sort after an ANALYZE of an empty table. Every statement that is not part of a
named transaction commits by itself.

Weather. Whatever keeps the database from answering is DatabaseUnavailable here, so that no caller sees
INTERNAL for it: connections that break, cannot be had or are refused, timeouts, a full disk, a standby.
A link that is half-open answers nothing at all, not even an error: TCP's own timers find a silent peer,
and a connection that somebody has used for longer than any statement may run is hung up on. Links to a
server that takes no writes (a primary that was demoted, the standby behind a stale name) are closed now and
then, so that the next ones may find the primary. Callers hear only that the database does not answer; the log says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection, errors
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from atlasqueue_server import traces
from atlasqueue_server.model.errors import DatabaseUnavailable, Overloaded, ShuttingDown
from atlasqueue_server.store import arrays
from atlasqueue_server.store.statements import statement

Row = tuple[Any, ...]
Params = Mapping[str, Any]
Connection = AsyncConnection[Row]
Cursor = psycopg.AsyncCursor[Row]
P = ParamSpec("P")
R = TypeVar("R")

SESSION_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    # The pool keeps links for later; one that PostgreSQL has closed meanwhile fails the next call.
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "default_transaction_isolation": "read committed",
    "timezone": "UTC",
    "search_path": "",
}
# PostgreSQL itself ends a statement after 10 s; who has not answered after this is not there.
ANSWER_S: Final = 12.0
# An idle link is found dead after 5 + 2 × 3 s, one with something on its way after 10 s.
CONNECTION_SETTINGS: Final[dict[str, Any]] = {
    # Arrays are encoded so, whatever the role or PGCLIENTENCODING says.
    "client_encoding": "UTF8",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}

# What goes away when the statement is run again.
TRANSIENT = (errors.DeadlockDetected, errors.SerializationFailure)
TRANSIENT_TRIES = 3
RENEW_EACH_S: Final = 2.0
# What goes wrong goes wrong for every statement: the log says each kind of it so often.
TROUBLE_EACH_S: Final = 10.0
# Weather that psycopg does not count among the operational errors.
OTHER_WEATHER = (
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
    errors.InFailedSqlTransaction,
    errors.TransactionTimeout,
    psycopg.InterfaceError,
)

log = structlog.get_logger("atlasqueue.store")


class Contended(Overloaded):
    """A deadlock or the like: the statement changed nothing and may be run again."""


def again_when_contended(work: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Runs a transaction again after a deadlock; what the last of TRANSIENT_TRIES tries raises is raised."""

    @wraps(work)
    async def tries(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(TRANSIENT_TRIES - 1):
            try:
                return await work(*args, **kwargs)
            except Contended:
                continue
        return await work(*args, **kwargs)

    return tries


async def configure(connection: Connection) -> None:
    """Pins plans and bounds waits on a new connection."""
    arrays.register(connection)
    with hung_up_after(connection, ANSWER_S):
        await connection.execute(
            statement("configure_connection"),
            {"names": list(SESSION_SETTINGS), "settings": list(SESSION_SETTINGS.values())},
        )


class Database:
    """A small pool on one database. All methods raise DatabaseUnavailable when it does not answer."""

    def __init__(
        self, url: str, *, connections_min: int = 2, connections_max: int = 10, wait_s: float = 5.0
    ) -> None:
        self.url = url
        # When the database answered last, monotonic seconds.
        self.answered_at = -math.inf
        # How many links were made. What was read over an older one may be unknown to the database that the newest
        # leads to: a standby that was promoted may lack the last of it.
        self.links_made = 0
        # Whether it was seen to refuse writes: it answers, and serves nobody.
        self.read_only = False
        self._trouble_told_at: dict[type[Exception], float] = {}
        self._renewed_at = -math.inf
        self._renewal: asyncio.Task[None] | None = None
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=min(connections_min, connections_max),
            max_size=connections_max,
            timeout=wait_s,
            open=False,
            configure=self._configure,
            reconnect_timeout=0,
            max_lifetime=3600,
            kwargs={
                "autocommit": True,
                "prepare_threshold": 0,
                "application_name": "atlasqueue-server",
                **CONNECTION_SETTINGS,
            },
        )

    async def _configure(self, connection: Connection) -> None:
        self.links_made += 1
        await configure(connection)

    async def open(self) -> None:
        """Opens the pool; connections are made in the background."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Closes the pool and its connections."""
        await self._pool.close()

    def pool_stats(self) -> dict[str, int]:
        """Figures of the pool, for metrics."""
        return self._pool.get_stats()

    @asynccontextmanager
    async def connection(self, answer_s: float = ANSWER_S) -> AsyncIterator[Connection]:
        """A connection in autocommit mode, hung up on when it is used for longer than `answer_s`.

        Raises DatabaseUnavailable, Contended, ShuttingDown.
        """
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task is not None else 0
        try:
            # Not pool.connection(), which would ask the connection to commit what has committed.
            connection = await self._pool.getconn()
            try:
                # The pool waits in asyncio.wait_for, which before Python 3.12 may swallow a cancellation.
                if task is not None and task.cancelling() > cancelled_before:
                    raise asyncio.CancelledError
                with hung_up_after(connection, answer_s, self._renew):
                    yield connection
                self.answered_at = time.monotonic()
            except errors.ReadOnlySqlTransaction:
                self._refused_write()
                raise
            finally:
                await self._pool.putconn(connection)
        except PoolClosed as error:
            raise ShuttingDown() from error
        except TRANSIENT as error:
            raise Contended("others change the same rows; repeat with backoff") from error
        except (PoolTimeout, psycopg.OperationalError, *OTHER_WEATHER) as error:
            self._tell_trouble(error)
            raise DatabaseUnavailable(
                "the database does not answer; repeat with backoff"
            ) from error

    def _refused_write(self) -> None:
        self.read_only = True
        # The pool would keep such links for an hour; renewed at each refusal they would come and go all the time.
        if (now := time.monotonic()) - self._renewed_at >= RENEW_EACH_S:
            self._renewed_at = now
            self._renew()

    def _tell_trouble(self, error: Exception) -> None:
        now, kind = time.monotonic(), type(error)
        if now - self._trouble_told_at.get(kind, -math.inf) < TROUBLE_EACH_S:
            return
        self._trouble_told_at[kind] = now
        # Its first line; those below may quote rows.
        why = (str(error) or kind.__name__).splitlines()[0]
        log.warning("database_trouble", kind=kind.__name__, why=why)

    def _renew(self) -> None:
        # What is true of one link is true of the others of that age.
        self._renewal = asyncio.get_running_loop().create_task(self._pool.drain())

    async def run_together(self, statements: Sequence[tuple[str, Params]]) -> list[list[Row]]:
        """Runs statements in one transaction and one round trip; runs them again after a deadlock."""
        if len(statements) == 1:
            return [await self.run(*statements[0])]
        with traces.statements([name for name, _ in statements]):
            return await self._run_together(statements)

    @again_when_contended
    async def _run_together(self, statements: Sequence[tuple[str, Params]]) -> list[list[Row]]:
        async with self.connection() as connection:
            # What is sent before a pipeline's one Sync is a transaction by itself. With BEGIN and
            # COMMIT around it psycopg would wait for a Sync of each.
            async with connection.pipeline():
                cursors = [await send(connection, name, params) for name, params in statements]
            return [await fetch(cursor) for cursor in cursors]

    async def run(self, name: str, params: Params | None = None) -> list[Row]:
        """Runs one statement in its own transaction and returns its rows; runs it again after a deadlock."""
        with traces.statements((name,)):
            return await self._run(name, params)

    @again_when_contended
    async def _run(self, name: str, params: Params | None) -> list[Row]:
        async with self.connection() as connection:
            return await fetch(await send(connection, name, params))


async def connect(url: str, application_name: str, **settings: Any) -> Connection:
    """A connection beside the pool, in autocommit mode; `settings` as psycopg takes them. Raises psycopg.Error."""
    return await AsyncConnection.connect(
        url,
        autocommit=True,
        application_name=application_name,
        **{**CONNECTION_SETTINGS, **settings},
    )


@contextmanager
def hung_up_after(
    connection: AsyncConnection[Any], seconds: float, then: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Shuts the connection's socket when the block takes longer; what waits on it fails then.

    A timeout around the block would not do: a cancelled statement waits for the server's last word.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _hang_up, connection, seconds, then)
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(connection: AsyncConnection[Any], seconds: float, then: Callable[[], None]) -> None:
    log.warning("database_link_silent", after_s=seconds)
    then()
    with contextlib.suppress(OSError, psycopg.Error):
        descriptor = os.dup(connection.fileno())
        with socket.socket(fileno=descriptor) as twin:
            twin.shutdown(socket.SHUT_RDWR)


async def send(connection: Connection, name: str, params: Params | None = None) -> Cursor:
    """Sends one statement; within a pipeline its rows are fetched later."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement(name), params)
    return cursor


async def fetch(cursor: Cursor) -> list[Row]:
    """The rows of a statement; none for one that returns nothing."""
    # Not by `description`, which makes an object of each column.
    if cursor.pgresult is None or not cursor.pgresult.nfields:
        return []
    return await cursor.fetchall()

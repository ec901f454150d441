"""Rows written straight into the tables with COPY: the limit of any enqueue, and the way to a backlog."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
from psycopg import sql

from atlasqueue.ids import new_job_id
from benchmarks.load.payloads import KIND, QUEUE, numbered

# What a row holds, by column; the rest has defaults in the schema.
VALUES = {
    "jobs": {
        "queue": QUEUE, "job_id": "", "kind": KIND, "priority": "3", "payload": "", "ready_seq": "",
    },
    "ready": {
        "queue": QUEUE, "job_id": "", "seq": "", "priority": "3", "fence": "0", "deliveries": "0",
        "attempt": "0", "crashes": "0", "cause": "e",
    },
}  # fmt: skip
BATCH = 5_000


class SchemaChanged(Exception):
    """A column came that this module has no value for."""


def columns(connection: psycopg.Connection, table: str) -> list[str]:
    """The columns to write. Raises SchemaChanged."""
    found = connection.execute(
        "select column_name, is_nullable = 'NO' and column_default is null"
        " from information_schema.columns"
        " where table_schema = 'atlasqueue' and table_name = %s order by ordinal_position",
        [table],
    ).fetchall()
    known = VALUES[table]
    if missing := [name for name, required in found if required and name not in known]:
        raise SchemaChanged(f"benchmarks/own/rows.py knows no value for {table}.{missing[0]}")
    return [name for name, _ in found if name in known]


def _reserve_seqs(connection: psycopg.Connection, jobs: int) -> int:
    """The first of as many places in ready, which nobody else will get."""
    row = connection.execute(
        "select setval('atlasqueue.ready_seq', nextval('atlasqueue.ready_seq') + %s) - %s",
        [jobs, jobs],
    ).fetchone()
    assert row is not None
    return int(row[0])


def _lines(table: str, names: list[str], numbers: range, ids: list[str], first_seq: int) -> bytes:
    known = VALUES[table]

    def value(name: str, number: int, job_id: str) -> str:
        if name == "job_id":
            return job_id
        if name in ("seq", "ready_seq"):
            return str(first_seq + number)
        return rf"\\x{numbered(number).hex()}" if name == "payload" else known[name]

    return "".join(
        "\t".join(value(name, number, job_id) for name in names) + "\n"
        for number, job_id in zip(numbers, ids, strict=True)
    ).encode()


class CopyBatches:
    """Batches of rows, written out before anything is measured."""

    def __init__(self, connection: psycopg.Connection, jobs: int) -> None:
        self._names = {table: columns(connection, table) for table in VALUES}
        self._first_seq = _reserve_seqs(connection, jobs)
        self._batches = [self._render(start, jobs) for start in range(0, jobs, BATCH)]

    def _render(self, start: int, jobs: int) -> tuple[int, dict[str, bytes]]:
        numbers = range(start, min(start + BATCH, jobs))
        ids = [new_job_id() for _ in numbers]
        first = self._first_seq
        rendered = {t: _lines(t, names, numbers, ids, first) for t, names in self._names.items()}
        return len(numbers), rendered

    def write(self, url: str, connections: int) -> None:
        """A transaction for each batch: both tables, and the delta of the queue's depth."""
        batches = iter(self._batches)
        errors: list[Exception] = []

        def writer(connection: psycopg.Connection) -> None:
            try:
                for count, data in _locked(batches, lock):
                    with connection.transaction():
                        for table, names in self._names.items():
                            copy_in(connection, table, names, data[table])
                        connection.execute(
                            "insert into atlasqueue.depth_deltas (queue, ready) values (%s, %s)",
                            [QUEUE, count],
                        )
            except Exception as error:
                errors.append(error)

        lock = threading.Lock()
        opened = [psycopg.connect(url, autocommit=True) for _ in range(connections)]
        threads = [threading.Thread(target=writer, args=[each]) for each in opened]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in opened:
            each.close()
        if errors:
            raise errors[0]


def copy_in(connection: psycopg.Connection, table: str, names: list[str], data: bytes) -> None:
    """COPY … FROM STDIN of rendered lines."""
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier("atlasqueue", table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with connection.cursor().copy(statement) as copy:
        copy.write(data)


def make_queue(url: str) -> None:
    """The queue, as an enqueue would make it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into atlasqueue.queues (name) values (%s) on conflict do nothing", [QUEUE]
        )


def preload(url: str, jobs: int) -> None:
    """Jobs that wait, in a migrated database; rendered piece by piece, so any number fits."""
    make_queue(url)
    piece = 200_000
    for start in range(0, jobs, piece):
        with psycopg.connect(url, autocommit=True) as connection:
            batches = CopyBatches(connection, min(piece, jobs - start))
        batches.write(url, 1)


def _locked(
    batches: Iterator[tuple[int, dict[str, bytes]]], lock: threading.Lock
) -> Iterator[tuple[int, dict[str, bytes]]]:
    while True:
        with lock:
            batch = next(batches, None)
        if batch is None:
            return
        yield batch

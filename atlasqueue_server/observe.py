"""Collectors of what is looked up at a scrape: the database's reading, this server's sessions and pool."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.loop_lag import LoopLag
from atlasqueue_server.domain.observe import Observer
from atlasqueue_server.metrics.names import OTHER, Names
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.observe import (
    ClusterReading,
    PostgresReading,
    QueueReading,
    TableReading,
)

STATES = ("scheduled", "ready", "leased", "dead", "succeeded", "cancelled")


def gauge(
    name: str,
    help_text: str,
    values: float | Mapping[tuple[str, ...], float] | None,
    labels: Sequence[str] = (),
) -> Iterator[Metric]:
    """A gauge, or nothing when there is no value."""
    if values is None:
        return
    family = GaugeMetricFamily(f"atlasqueue_{name}", help_text, labels=labels)
    for key, value in values.items() if isinstance(values, Mapping) else [((), values)]:
        family.add_metric(key, value)
    yield family


def counter(name: str, help_text: str, value: float | None) -> Iterator[Metric]:
    """A counter, or nothing when there is no value."""
    if value is not None:
        family = CounterMetricFamily(f"atlasqueue_{name}", help_text)
        family.add_metric([], value)
        yield family


class DatabaseCollector(Collector):
    """The last reading of the database."""

    def __init__(self, observer: Observer, names: Names) -> None:
        self._observer = observer
        self._names = names

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on the reading."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics; without a reading only those about readings."""
        observer = self._observer
        yield from counter(
            "observations_failed", "Failed readings of the database.", observer.failed
        )
        if (reading := observer.reading) is None:
            return
        age_s = observer.age_s if math.isfinite(observer.age_s) else None
        yield from gauge("observation_age_seconds", "Age of the reading shown.", age_s)
        yield from gauge("observation_seconds", "How long the last reading took.", observer.took_s)
        yield from _queues(reading.queues, self._names)
        yield from _cluster(reading.cluster)
        yield from _postgres(reading.postgres)
        yield from _tables(reading.tables)


def _queues(queues: Iterable[QueueReading], names: Names) -> Iterator[Metric]:
    jobs: defaultdict[tuple[str, ...], float] = defaultdict(float)
    oldest: defaultdict[tuple[str, ...], float] = defaultdict(float)
    paused: defaultdict[tuple[str, ...], float] = defaultdict(float)
    count, estimated = 0, False
    for queue in queues:
        count += 1
        estimated |= queue.estimated
        name = names.queue(queue.name)
        for state in STATES:
            jobs[name, state] += getattr(queue, state)
        # Many share `_other`, where nobody can tell which of them is meant to wait.
        waits = 0.0 if queue.paused and name == OTHER else queue.oldest_ready_s
        oldest[(name,)] = max(oldest[(name,)], waits)
        paused[(name,)] += queue.paused
    yield from gauge("queue_jobs", "Jobs by state; take the max.", jobs, ["queue", "state"])
    yield from gauge("queue_jobs_estimated", "1 while depth is an estimate.", float(estimated))
    yield from gauge(
        "queue_oldest_ready_age_seconds",
        "How long the oldest ready job could have been leased; take the max.",
        oldest,
        ["queue"],
    )
    yield from gauge("queue_paused", "1 while the queue is paused.", paused, ["queue"])
    yield from gauge("queues", "Queues that exist.", count)


def _cluster(cluster: ClusterReading) -> Iterator[Metric]:
    yield from gauge("cluster_leader", "1 while some server leads.", float(cluster.leader))
    yield from gauge("cluster_term", "The newest term.", cluster.term)
    yield from gauge(
        "cluster_tick_age_seconds", "Time since the scheduler last ticked.", cluster.tick_age_s
    )
    yield from gauge("cluster_servers", "Servers seen of late.", cluster.servers)
    states = ("streaming", "silent", "lost")
    sessions: dict[tuple[str, ...], float] = {(s,): getattr(cluster, s) for s in states}
    yield from gauge("cluster_sessions", "Sessions of workers.", sessions, ["state"])
    yield from gauge("cluster_slots", "Slots of all live sessions.", cluster.slots)


def _postgres(postgres: PostgresReading) -> Iterator[Metric]:
    yield from gauge(
        "postgres_xmin_age_transactions",
        "How many transactions ago that one began which holds vacuum back the longest.",
        postgres.xmin_age or 0,
    )
    yield from gauge(
        "postgres_oldest_transaction_age_seconds",
        "How long the oldest open transaction of this database has been open.",
        postgres.oldest_transaction_s or 0,
    )
    yield from counter("postgres_wal_bytes", "WAL written.", postgres.wal_bytes)
    yield from counter("postgres_commits", "Transactions committed.", postgres.commits)
    yield from counter("postgres_deadlocks", "Deadlocks.", postgres.deadlocks)
    yield from gauge(
        "postgres_connections", "Connections to all databases of it.", postgres.connections
    )
    yield from gauge(
        "postgres_connections_max", "Connections that it allows.", postgres.connections_max
    )
    yield from gauge(
        "postgres_database_size_bytes", "Size of the database.", postgres.database_bytes
    )


def _tables(tables: Iterable[TableReading]) -> Iterator[Metric]:
    dead: dict[tuple[str, ...], float] = {(t.name,): t.dead for t in tables}
    live: dict[tuple[str, ...], float] = {(t.name,): t.live for t in tables}
    yield from gauge("postgres_dead_rows", "Rows that vacuum has to remove.", dead, ["table"])
    yield from gauge("postgres_live_rows", "Rows of a table.", live, ["table"])


class ServerCollector(Collector):
    """This server's sessions, lanes, event loop and pool."""

    def __init__(self, dispatcher: Dispatcher, database: Database, lag: LoopLag) -> None:
        self._dispatcher = dispatcher
        self._database = database
        self._lag = lag

    def describe(self) -> list[Metric]:
        """Nothing: the names are its own."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        sessions = list(self._dispatcher.sessions)
        yield from gauge("sessions", "Sessions whose stream is open here.", len(sessions))
        yield from gauge("slots", "Slots of the open sessions.", sum(s.slots for s in sessions))
        leases = sum(len(s.fences) for s in sessions)
        yield from gauge("leases", "Jobs leased to the open sessions.", leases)
        credit = sum(max(0, s.credit) for s in sessions)
        yield from gauge("credits", "Jobs that may still be leased to them.", credit)
        yield from gauge("lanes", "Queues that are leased from.", self._dispatcher.lanes)
        yield from gauge(
            "event_loop_lag_seconds",
            "How late a timer ran, the worst of the last 15 s.",
            self._lag.worst_s,
        )
        yield from _pool(self._database.pool_stats())


def _pool(stats: Mapping[str, int]) -> Iterator[Metric]:
    size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
    connections: dict[tuple[str, ...], float] = {("used",): size - idle, ("idle",): idle}
    yield from gauge("pool_connections", "Connections of the pool.", connections, ["state"])
    yield from gauge("pool_connections_max", "Connections at most.", stats.get("pool_max", 0))
    yield from gauge(
        "pool_waiting", "Statements that wait for a connection.", stats.get("requests_waiting", 0)
    )
    yield from counter("pool_requests", "Connections asked for.", stats.get("requests_num", 0))
    yield from counter(
        "pool_requests_failed", "Requests that got none.", stats.get("requests_errors", 0)
    )
    yield from counter(
        "pool_wait_seconds", "Time spent waiting.", stats.get("requests_wait_ms", 0) / 1000
    )

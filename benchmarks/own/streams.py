"""What workers cost that have nothing to do, and those that hold many jobs for long."""

from __future__ import annotations

import psycopg

from benchmarks.harness import procfs
from benchmarks.harness.console import say
from benchmarks.harness.interleave import Measure
from benchmarks.own.context import Context, Live, Metrics
from benchmarks.own.rows import preload

HOLDERS = 10
_CALLS = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements"


def _statements(connection: psycopg.Connection) -> int | None:
    """Statements so far of the whole server, BEGIN and COMMIT among them; None without the extension."""
    try:
        row = connection.execute(_CALLS).fetchone()
    except psycopg.Error:
        return None
    return int(row[0]) if row else None


def _forget(connection: psycopg.Connection) -> None:
    """Begins the statistics anew; without the extension there are none."""
    try:
        connection.execute("select pg_stat_statements_reset()")
    except psycopg.Error:
        return


def _tell(connection: psycopg.Connection, seconds: float) -> None:
    """The most frequent statements since the statistics began, for whoever wants fewer."""
    rows = connection.execute(
        "select calls, left(regexp_replace(query, '\\s+', ' ', 'g'), 90)"
        " from pg_stat_statements order by calls desc limit 8"
    ).fetchall()
    for calls, query in rows:
        say(f"[dim]{calls / seconds:6.1f}/s  {query}")


def _idle(live: Live, **options: object) -> Metrics:
    """Shares of a core and statements a second while sessions only live."""
    context = live.context
    connection = context.postgres.connection
    with live.runner("streams", seconds=context.sizes.idle_s, **options) as runner:
        runner.ready(timeout_s=180)
        meter = live.meter(worker=runner)
        meter.start()
        _forget(connection)
        statements = _statements(connection)
        runner.go()
        result = runner.result(timeout_s=context.sizes.idle_s + 60)
        after, calls = meter.read(), _statements(connection)
        runner.stop()
    before = meter.before
    seconds = result["seconds"]
    metrics = {
        f"{role}_cpu_share": (after.cpu[role] - before.cpu[role]) / seconds
        for role in ("server", "postgres")
        if role in after.cpu
    }
    metrics["write_commits_per_s"] = (after.write_commits - before.write_commits) / seconds
    metrics["beats_per_s"] = result["beats"] / seconds
    metrics["lost"] = float(result["lost"])
    if statements is not None and calls is not None:
        _tell(connection, seconds)
        # Less the harness's own three: two readings of the counters, one of the statements.
        metrics["statements_per_s"] = max(0.0, (calls - statements - 3) / seconds)
    return metrics


def idle_streams(context: Context) -> dict[str, Measure]:
    """Streams with default pings and heartbeats, no job anywhere; beside a server with one stream, and
    beside grpc.aio by itself with the same messages."""

    def measure(streams: int) -> Measure:
        def once() -> dict[str, Metrics]:
            with context.server() as live:
                return {"idle_streams": _idle(live, streams=streams)}

        return once

    def bare() -> dict[str, Metrics]:
        with context.runner("bare_server") as server:
            server.ready()
            server.go()
            address = server.result()["address"]
            return {"idle_streams": _bare(context, address, server.pid)}

    return {
        f"{context.sizes.streams} streams": measure(context.sizes.streams),
        "1 stream": measure(1),
        f"{context.sizes.streams} bare streams": bare,
    }


def _bare(context: Context, address: str, pid: int) -> Metrics:
    """What grpc.aio takes for the same messages."""
    options = {"streams": context.sizes.streams, "seconds": context.sizes.idle_s}
    with context.runner("streams", address, **options) as runner:
        runner.ready(timeout_s=180)
        before = procfs.cpu_seconds([pid])
        runner.go()
        result = runner.result(timeout_s=context.sizes.idle_s + 60)
        after = procfs.cpu_seconds([pid])
        runner.stop()
    seconds = result["seconds"]
    return {
        "server_cpu_share": (after - before) / seconds,
        "beats_per_s": result["beats"] / seconds,
    }


def heartbeats(context: Context) -> dict[str, Measure]:
    """Ten workers that hold many leases between them, beside a server that nobody talks to."""
    held = context.sizes.held

    def once() -> dict[str, Metrics]:
        with context.server() as live:
            preload(live.url, held)
            holders = {"streams": HOLDERS, "slots": held // HOLDERS, "held": held}
            return {"heartbeats": _idle(live, **holders)}

    def nobody() -> dict[str, Metrics]:
        with context.server() as live:
            return {"heartbeats": _idle(live, streams=0)}

    return {f"{held} leases on {HOLDERS} workers": once, "no worker": nobody}

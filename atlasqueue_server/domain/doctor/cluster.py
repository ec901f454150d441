"""Checks of the cluster: servers, leader, clocks, queues that nobody serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from atlasqueue_server.domain.doctor.findings import Finding, Level, check, number, span
from atlasqueue_server.model import limits
from atlasqueue_server.store.examine import Facts, Leader, Server

CLOCK_OFF_S: Final = 1.0
OUTAGE_S: Final = limits.LEADER_LEASE_S + limits.OUTAGE_MARGIN_S


def _present(facts: Facts) -> list[Server]:
    assert isinstance(facts.servers, list)
    return [one for one in facts.servers if one.seen_s <= limits.PRESENT_WITHIN_S]


@check("servers", "servers")
def servers(facts: Facts) -> Iterable[Finding]:
    """Some are there, and none has just vanished without a word."""
    assert isinstance(facts.servers, list)
    if not _present(facts):
        yield Finding(
            Level.PROBLEM,
            "no server runs on this database",
            "nothing can be enqueued, leased or reported",
            ("atlasqueue-server serve", "and look at the end of the log of those that should run"),
        )
    for one in facts.servers:
        if one.seen_s > limits.PRESENT_WITHIN_S:
            yield Finding(
                Level.WARNING,
                f"server {one.server_id} at {one.address} was last heard {span(one.seen_s)} ago",
                "it was killed, hangs, or does not reach the database; one that stops in order says so",
                ("look at its process and log; it is forgotten a minute after it was last heard",),
            )


@check("versions", "servers")
def versions(facts: Facts) -> Iterable[Finding]:
    """All servers are of one version."""
    by_version: dict[str, list[str]] = {}
    for one in _present(facts):
        by_version.setdefault(one.version, []).append(one.address)
    if len(by_version) > 1:
        listed = "; ".join(f"{v} at {', '.join(a)}" for v, a in sorted(by_version.items()))
        yield Finding(
            Level.WARNING,
            f"servers of {len(by_version)} versions run side by side: {listed}",
            "that is right during a rolling upgrade, and only then",
            ("end the upgrade: docs/operating/upgrade.md",),
        )


@check("leader", "servers", "leader")
def leader(facts: Facts) -> Iterable[Finding]:
    """One leads, and ticks."""
    found = facts.leader
    assert found is None or isinstance(found, Leader)
    if not _present(facts):
        return
    ticked = f"; the last tick was {span(found.ticked_s)} ago" if found else ""
    if found is None or found.time_left_s <= 0:
        yield Finding(
            Level.PROBLEM,
            f"no server leads{ticked}",
            "delayed jobs and retries do not become ready, dead workers keep their leases, nothing is pruned",
            (
                "run doctor again in some seconds: a change of leader takes a few",
                "then look for leadership_taken, leadership_lost and errors in the servers' logs",
            ),
        )
    elif found.ticked_s > OUTAGE_S:
        yield Finding(
            Level.PROBLEM,
            f"{found.holder} leads (term {found.term}) but has not ticked for {span(found.ticked_s)}",
            "delayed jobs and retries do not become ready, dead workers keep their leases",
            (
                "look for errors of its loops in its log; restart it, and another one takes over at once",
            ),
        )


@check("clocks", "servers")
def clocks(facts: Facts) -> Iterable[Finding]:
    """Clocks agree with the database's."""
    why = (
        "leases and retries are safe, since their time is the database's; logs and traces cannot be put in "
        "order, and a run_at that a client computes is off by as much"
    )
    for one in _present(facts):
        offset_s = (one.clock_offset_ms or 0) / 1000
        if abs(offset_s) >= CLOCK_OFF_S:
            yield Finding(
                Level.WARNING,
                f"the clock of server {one.server_id} at {one.address} is {_off(offset_s)}",
                why,
                (
                    "on that machine: timedatectl status (or chronyc tracking), and start its NTP client",
                ),
            )
    if abs(facts.clock_offset_s) >= CLOCK_OFF_S:
        yield Finding(
            Level.NOTE,
            f"the clock of this machine is {_off(facts.clock_offset_s)}",
            why,
            ("on this machine or on the database's: timedatectl status",),
        )


def _off(offset_s: float) -> str:
    return f"{span(abs(offset_s))} {'ahead of' if offset_s > 0 else 'behind'} the database's"


@check("queues", "queues")
def queues(facts: Facts) -> Iterable[Finding]:
    """Somebody serves every queue that has ready jobs."""
    assert isinstance(facts.queues, list)
    for one in facts.queues:
        jobs = f"{number(one.ready)} ready {'job' if one.ready == 1 else 'jobs'}"
        if one.paused:
            yield Finding(
                Level.NOTE,
                f"queue {one.queue} is paused with {jobs}",
                "nothing of it is leased until it is resumed",
                (f"curl -X POST http://SERVER:7421/v1/queues/{one.queue}:resume",),
            )
        elif not one.sessions:
            yield Finding(
                Level.WARNING,
                f"queue {one.queue} has {jobs}, and no worker serves it",
                "they wait until one does",
                (f"atlasqueue-worker run MODULE:APP --queues {one.queue}",),
            )

"""Queues, workers and the cluster as the SDK shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from atlasqueue.jobs import (
    RetryPolicy,
    retry_policy_from_proto,
    retry_policy_to_proto,
    to_duration,
)
from atlasqueue.v1 import queue_service_pb2


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How a queue treats its jobs; what is None has the default.

    Attributes:
        retry_policy: of jobs that carry none of their own, field by field.
        visibility_timeout: a worker's session is lost after so long without a heartbeat, 1 s to 12 h; default
            30 s. A session has the largest of its queues.
    """

    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    visibility_timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue.

    Attributes:
        name: its name.
        paused: no lease is granted.
        policy: what is set for it.
        created_at: when it came into being.
    """

    name: str
    paused: bool
    policy: QueuePolicy
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Depth:
    """Jobs of a queue by state: exact. `succeeded` and `cancelled` count since the queue came into being."""

    scheduled: int
    ready: int
    leased: int
    dead: int
    succeeded: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class WorkerSession:
    """A worker's session.

    Attributes:
        session_id, worker, queues: its id, the worker's name, the queues that it serves.
        slots: how many jobs it may hold.
        leased: how many it holds.
        streaming: a stream of it is open, on the server `server_id`.
        server_id: where its newest stream was opened.
        opened_at: when it was opened.
        time_left: how long it lives without another heartbeat.
    """

    session_id: int
    worker: str
    queues: tuple[str, ...]
    slots: int
    leased: int
    streaming: bool
    server_id: str
    opened_at: datetime
    time_left: timedelta


@dataclass(frozen=True, slots=True)
class Server:
    """A server process."""

    server_id: str
    address: str
    version: str
    started_at: datetime
    leader: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """The servers that live, and the leader (empty while there is none)."""

    servers: tuple[Server, ...]
    leader: str
    term: int


def policy_to_proto(policy: QueuePolicy) -> queue_service_pb2.QueuePolicy:
    """A policy on the wire."""
    message = queue_service_pb2.QueuePolicy(retry_policy=retry_policy_to_proto(policy.retry_policy))
    if policy.visibility_timeout is not None:
        message.visibility_timeout.CopyFrom(to_duration(policy.visibility_timeout))
    return message


def queue_from_proto(message: queue_service_pb2.Queue) -> Queue:
    """A queue from the wire."""
    has_timeout = message.policy.HasField("visibility_timeout")
    policy = QueuePolicy(
        retry_policy_from_proto(message.policy.retry_policy),
        message.policy.visibility_timeout.ToTimedelta() if has_timeout else None,
    )
    return Queue(message.name, message.paused, policy, message.created_at.ToDatetime(UTC))


def depth_from_proto(message: queue_service_pb2.Depth) -> Depth:
    """A depth from the wire."""
    return Depth(
        message.scheduled,
        message.ready,
        message.leased,
        message.dead,
        message.succeeded,
        message.cancelled,
    )


def worker_from_proto(message: queue_service_pb2.WorkerSession) -> WorkerSession:
    """A session from the wire."""
    return WorkerSession(
        message.session_id,
        message.worker,
        tuple(message.queues),
        message.slots,
        message.leased,
        message.streaming,
        message.server_id,
        message.opened_at.ToDatetime(UTC),
        message.time_left.ToTimedelta(),
    )


def cluster_from_proto(message: queue_service_pb2.GetClusterResponse) -> Cluster:
    """The cluster from the wire."""
    servers = tuple(
        Server(s.server_id, s.address, s.version, s.started_at.ToDatetime(UTC), s.leader)
        for s in message.servers
    )
    return Cluster(servers, message.leader, message.term)

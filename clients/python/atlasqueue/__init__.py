"""Python SDK of AtlasQueue: enqueue jobs, read them, wait for results, operate queues.

    from atlasqueue import Client

    with Client("127.0.0.1:7420") as client:
        job_id = client.enqueue("media", "resize", b"cat.png")
        print(client.wait(job_id).result)

What stands here is the whole public surface. Workers are written with the package atlasqueue_worker.
"""

from atlasqueue.async_client import AsyncClient
from atlasqueue.channel import Tls
from atlasqueue.client import Client
from atlasqueue.errors import (
    AtlasQueueError,
    DatabaseUnavailable,
    DeadlineExceeded,
    EnqueueManyError,
    InternalError,
    InvalidField,
    JobCancelled,
    JobDead,
    JobDied,
    JobFinal,
    JobIdAmbiguous,
    JobIdConflict,
    JobNotFound,
    MalformedMessage,
    MessageTooLarge,
    Overloaded,
    QueueNotFound,
    SessionLost,
    SessionSuperseded,
    ShuttingDown,
    TooManyQueues,
    Unavailable,
    Violation,
)
from atlasqueue.ids import new_job_id
from atlasqueue.jobs import (
    CancelledJobs,
    DeadLetterReason,
    Failure,
    FailureCause,
    Job,
    JobState,
    NewJob,
    RetryPolicy,
)
from atlasqueue.queues import Cluster, Depth, Queue, QueuePolicy, Server, WorkerSession

__all__ = [
    "AsyncClient",
    "AtlasQueueError",
    "CancelledJobs",
    "Client",
    "Cluster",
    "DatabaseUnavailable",
    "DeadLetterReason",
    "DeadlineExceeded",
    "Depth",
    "EnqueueManyError",
    "Failure",
    "FailureCause",
    "InternalError",
    "InvalidField",
    "Job",
    "JobCancelled",
    "JobDead",
    "JobDied",
    "JobFinal",
    "JobIdAmbiguous",
    "JobIdConflict",
    "JobNotFound",
    "JobState",
    "MalformedMessage",
    "MessageTooLarge",
    "NewJob",
    "Overloaded",
    "Queue",
    "QueueNotFound",
    "QueuePolicy",
    "RetryPolicy",
    "Server",
    "SessionLost",
    "SessionSuperseded",
    "ShuttingDown",
    "Tls",
    "TooManyQueues",
    "Unavailable",
    "Violation",
    "WorkerSession",
    "new_job_id",
]

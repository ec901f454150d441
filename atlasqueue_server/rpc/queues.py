"""QueueService."""

from __future__ import annotations

from collections.abc import Sequence

from atlasqueue.v1 import queue_service_pb2
from atlasqueue_server.domain.cluster import Cluster
from atlasqueue_server.domain.dead_letters import DeadLetters
from atlasqueue_server.domain.pages import Order, PageToken
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import DeadLetterFilter
from atlasqueue_server.rpc import convert_in, convert_out
from atlasqueue_server.rpc.validate import Checker

# Paths of an update_mask beside the columns they stand for.
POLICY_PATHS = {
    "retry_policy.max_attempts": "max_attempts",
    "retry_policy.initial_backoff": "backoff_initial_ms",
    "retry_policy.multiplier": "backoff_multiplier",
    "retry_policy.max_backoff": "backoff_cap_ms",
    "visibility_timeout": "visibility_timeout_ms",
}


class QueueHandlers:
    """Proto in, one domain verb, proto out."""

    def __init__(self, queues: Queues, dead_letters: DeadLetters, cluster: Cluster) -> None:
        self._queues = queues
        self._dead_letters = dead_letters
        self._cluster = cluster

    async def list_queues(
        self, request: queue_service_pb2.ListQueuesRequest
    ) -> queue_service_pb2.ListQueuesResponse:
        """Lists queues by name."""
        page_size, token = _page(request, Order.NAME)
        queues = await self._queues.page(token.name, page_size)
        full = len(queues) == page_size
        return queue_service_pb2.ListQueuesResponse(
            queues=[convert_out.queue(q) for q in queues],
            next_page_token=PageToken(name=queues[-1].name).encode() if full else "",
        )

    async def get_queue(
        self, request: queue_service_pb2.GetQueueRequest
    ) -> queue_service_pb2.GetQueueResponse:
        """Reads one queue."""
        queue = await self._queues.get(_queue(request))
        return queue_service_pb2.GetQueueResponse(queue=convert_out.queue(queue))

    async def update_queue_policy(
        self, request: queue_service_pb2.UpdateQueuePolicyRequest
    ) -> queue_service_pb2.UpdateQueuePolicyResponse:
        """Changes a queue's policy."""
        check = Checker()
        name = check.name("queue", request.queue)
        policy = convert_in.queue_policy(check, "policy.", request.policy)
        fields = _masked(check, request)
        check.raise_if_refused()
        queue = await self._queues.update_policy(name, policy, fields)
        return queue_service_pb2.UpdateQueuePolicyResponse(queue=convert_out.queue(queue))

    async def pause_queue(
        self, request: queue_service_pb2.PauseQueueRequest
    ) -> queue_service_pb2.PauseQueueResponse:
        """Stops leases."""
        queue = await self._queues.pause(_queue(request))
        return queue_service_pb2.PauseQueueResponse(queue=convert_out.queue(queue))

    async def resume_queue(
        self, request: queue_service_pb2.ResumeQueueRequest
    ) -> queue_service_pb2.ResumeQueueResponse:
        """Allows leases."""
        queue = await self._queues.resume(_queue(request))
        return queue_service_pb2.ResumeQueueResponse(queue=convert_out.queue(queue))

    async def get_depth(
        self, request: queue_service_pb2.GetDepthRequest
    ) -> queue_service_pb2.GetDepthResponse:
        """Counts jobs by state."""
        depth = await self._queues.depth(_queue(request))
        return queue_service_pb2.GetDepthResponse(depth=convert_out.depth(depth))

    async def list_dead_letters(
        self, request: queue_service_pb2.ListDeadLettersRequest
    ) -> queue_service_pb2.ListDeadLettersResponse:
        """Lists dead letters."""
        check = Checker()
        queue = check.name("queue", request.queue)
        wanted = convert_in.dead_letter_filter(check, "filter", request.filter)
        page_size = check.page_size(request.page_size)
        text = check.page_token(request.page_token)
        check.raise_if_refused()
        token = PageToken.decode(text, Order.JOB_ID)
        jobs, following = await self._dead_letters.page(queue, wanted, page_size, token)
        return queue_service_pb2.ListDeadLettersResponse(
            jobs=[convert_out.job(job) for job in jobs],
            next_page_token=following.encode() if following else "",
        )

    async def redrive_dead_letters(
        self, request: queue_service_pb2.RedriveDeadLettersRequest
    ) -> queue_service_pb2.RedriveDeadLettersResponse:
        """Moves dead letters back to ready."""
        queue, chosen, most = _chosen(request)
        redriven, more = await self._dead_letters.redrive(
            queue, chosen, most, dry_run=request.dry_run
        )
        return queue_service_pb2.RedriveDeadLettersResponse(redriven=redriven, more=more)

    async def purge_dead_letters(
        self, request: queue_service_pb2.PurgeDeadLettersRequest
    ) -> queue_service_pb2.PurgeDeadLettersResponse:
        """Deletes dead letters."""
        queue, chosen, most = _chosen(request)
        purged, more = await self._dead_letters.purge(queue, chosen, most, dry_run=request.dry_run)
        return queue_service_pb2.PurgeDeadLettersResponse(purged=purged, more=more)

    async def list_workers(
        self, request: queue_service_pb2.ListWorkersRequest
    ) -> queue_service_pb2.ListWorkersResponse:
        """Lists the sessions of workers."""
        page_size, token = _page(request, Order.SESSION)
        rows = await self._cluster.workers(token.seq, page_size)
        full = len(rows) == page_size
        return queue_service_pb2.ListWorkersResponse(
            workers=[convert_out.worker_session(row) for row in rows],
            next_page_token=PageToken(seq=rows[-1].session_id).encode() if full else "",
        )

    async def get_cluster(
        self, request: queue_service_pb2.GetClusterRequest
    ) -> queue_service_pb2.GetClusterResponse:
        """Names servers and leader."""
        view = await self._cluster.view()
        return queue_service_pb2.GetClusterResponse(
            servers=[convert_out.server(row) for row in view.servers],
            leader=view.leader,
            term=view.term,
            leader_time_left=convert_out.seconds(view.leader_time_left_s),
        )


def _queue(
    request: queue_service_pb2.GetQueueRequest
    | queue_service_pb2.PauseQueueRequest
    | queue_service_pb2.ResumeQueueRequest
    | queue_service_pb2.GetDepthRequest,
) -> str:
    check = Checker()
    name = check.name("queue", request.queue)
    check.raise_if_refused()
    return name


def _page(
    request: queue_service_pb2.ListQueuesRequest | queue_service_pb2.ListWorkersRequest,
    order: Order,
) -> tuple[int, PageToken]:
    check = Checker()
    page_size = check.page_size(request.page_size)
    token = check.page_token(request.page_token)
    check.raise_if_refused()
    return page_size, PageToken.decode(token, order)


def _masked(check: Checker, request: queue_service_pb2.UpdateQueuePolicyRequest) -> frozenset[str]:
    paths = set(request.update_mask.paths)
    if not paths:
        retry = request.policy.retry_policy
        paths = {f"retry_policy.{field.name}" for field, _ in retry.ListFields()}
        if request.policy.HasField("visibility_timeout"):
            paths.add("visibility_timeout")
    if "retry_policy" in paths:
        paths = (paths - {"retry_policy"}) | {p for p in POLICY_PATHS if p.startswith("retry_")}
    if unknown := sorted(paths - set(POLICY_PATHS)):
        check.refuse("update_mask", f"must name only retry_policy, {', '.join(POLICY_PATHS)}")
        paths -= set(unknown)
    return frozenset(POLICY_PATHS[path] for path in paths)


def _chosen(
    request: queue_service_pb2.RedriveDeadLettersRequest
    | queue_service_pb2.PurgeDeadLettersRequest,
) -> tuple[str, Sequence[str] | DeadLetterFilter, int]:
    check = Checker()
    queue = check.name("queue", request.queue)
    check.count("job_ids", len(request.job_ids), 0, limits.BATCH_ITEMS_MAX)
    if bool(request.job_ids) == request.HasField("filter"):
        check.refuse(
            "job_ids", "exactly one of job_ids and filter is required (an empty filter: all)"
        )
    most = limits.BATCH_ITEMS_MAX
    if request.max_jobs:
        most = check.integer("max_jobs", request.max_jobs, 1, limits.BATCH_ITEMS_MAX)
    wanted = convert_in.dead_letter_filter(check, "filter", request.filter)
    job_ids = [check.job_id(f"job_ids[{i}]", job_id) for i, job_id in enumerate(request.job_ids)]
    check.raise_if_refused()
    return queue, job_ids or wanted, most

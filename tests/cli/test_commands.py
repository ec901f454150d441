"""Each command against a real server: what it prints for people, its JSON, its exit code."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atlasqueue import new_job_id
from atlasqueue.v1 import job_pb2, worker_service_pb2
from atlasqueue_cli import cancel_many
from atlasqueue_server.domain import cancel_many as domain
from tests.cli.running import Cli, start
from tests.plugins.server import RunningServer

NOBODY = "0198c5a2-7d1e-7c3a-9b1f-0242ac120002"


async def enqueue(cli: Cli, *arguments: str, given: bytes | None = None) -> str:
    """Enqueues to queue q; the id."""
    ended = await cli("enqueue", "q", *arguments, given=given)
    assert (ended.code, ended.err) == (0, "")
    return ended.out.strip()


async def report(server: RunningServer, jobs: int, **outcome: object) -> None:
    """A worker leases jobs of queue q and reports one outcome for each."""
    leased = await server.workers.LeaseOnce(
        worker_service_pb2.LeaseOnceRequest(queues=["q"], worker="test", max_jobs=jobs)
    )
    assert len(leased.jobs) == jobs
    outcomes = [
        worker_service_pb2.JobOutcome(queue="q", job_id=j.job_id, fence=j.fence, **outcome)  # type: ignore[arg-type]
        for j in leased.jobs
    ]
    request = worker_service_pb2.ReportRequest(
        session_id=leased.session.session_id, outcomes=outcomes
    )
    await server.workers.Report(request)


REJECTED = worker_service_pb2.Reject(
    error=job_pb2.JobError(type="ValueError", message="no \x1b[31mcustomer", stack="line 1\nline 2")
)


async def test_enqueue_prints_the_id_and_get_shows_the_job(cli: Cli, tmp_path: Path) -> None:
    flags = ["--header", "a=b=c", "--in", "1h", "--priority", "1", "--deadline", "90s"]
    job_id = await enqueue(cli, "k", "cat\x1b.png", *flags, "--max-attempts", "3")
    shown = await cli("get", job_id)
    assert shown.code == 0
    for part in (job_id, "scheduled  runs at ", "a=b=c", "1m30s", "max_attempts 3", "cat\\x1b.png"):
        assert part in shown.out
    (job,) = (await cli("get", job_id, "--queue", "q", "-o", "json")).lines
    assert (job["jobId"], job["state"], job["priority"]) == (job_id, "JOB_STATE_SCHEDULED", 1)
    assert base64.b64decode(job["payload"]) == b"cat\x1b.png"
    assert job["fence"] == "0", "64-bit numbers are strings, as in REST"
    assert (await cli("get", job_id, "--only", "payload")).out == "cat\x1b.png"


async def test_payloads_come_from_an_argument_a_file_or_a_pipe(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "payload"
    file.write_text("from a file\n")
    given = {
        "text": await enqueue(cli, "k", "text"),
        "from a file\n": await enqueue(cli, "k", f"@{file}"),
        "from a pipe": await enqueue(cli, "k", "-", given=b"from a pipe"),
        "@home": await enqueue(cli, "k", "@@home"),
        "": await enqueue(cli, "k"),
    }
    for payload, job_id in given.items():
        assert (await cli("get", job_id, "--only", "payload")).out == payload


async def test_enqueue_with_an_id_is_safe_to_repeat(cli: Cli) -> None:
    job_id = new_job_id()
    for _ in range(2):
        assert await enqueue(cli, "k", "x", "--job-id", job_id) == job_id
    other = await cli("enqueue", "q", "k", "y", "--job-id", job_id)
    assert other.code == 1
    assert "with another body" in other.err
    assert "hint: leave --job-id out" in other.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["get", NOBODY], 3, f"no job {NOBODY}"),
        (["wait", NOBODY], 3, f"no job {NOBODY}"),
        (["cancel", NOBODY], 3, f"no job {NOBODY}"),
        (["tail", NOBODY], 3, f"no job {NOBODY}"),
        (["get", "x"], 2, "job_id: must be a UUID"),
        (["list", "nope"], 3, "atlasqueue queues list"),
        (["queues", "show", "nope"], 3, "no queue named nope"),
        (["dead-letters", "redrive", "nope"], 3, "no queue named nope"),
        (["enqueue", "no spaces", "k"], 2, "job.queue: must match"),
        (["enqueue", "q", "k", "--priority", "9"], 2, "job.priority: must be 1 to 5"),
        (["queues", "policy", "q", "--multiplier", "99"], 2, "multiplier"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_errors_have_an_exit_code_and_say_what_to_do(
    cli: Cli, arguments: list[str], code: int, says: str
) -> None:
    ended = await cli(*arguments, "-o", "json")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("atlasqueue: ")
    assert says in ended.err


async def test_list_filters_pages_and_says_that_there_is_more(cli: Cli) -> None:
    ids = [await enqueue(cli, kind) for kind in ("a", "a", "b")]
    later = await enqueue(cli, "a", "--in", "1h")

    async def listed(*arguments: str) -> list[str]:
        ended = await cli("list", "q", "-o", "json", *arguments)
        assert ended.code == 0
        return [job["jobId"] for job in ended.lines]

    assert await listed() == [*ids, later]
    assert await listed("--kind", "b") == [ids[2]]
    assert await listed("--state", "scheduled") == [later]
    assert await listed("--created-after", "1h", "--all") == [*ids, later]
    assert await listed("--created-before", "1h") == []
    first = await cli("list", "q", "--limit", "2")
    assert [line.split()[0] for line in first.out.splitlines()] == ["JOB", *ids[:2]]
    assert "2 shown, there are more: --all, --limit, or --page-token " in first.err
    token = first.err.split()[-1]
    assert await listed("--page-token", token) == [ids[2], later]


async def test_wait_prints_the_result_and_tells_the_ends_apart(
    cli: Cli, server: RunningServer
) -> None:
    done = await enqueue(cli, "k")
    await report(server, 1, complete=worker_service_pb2.Complete(result=b"HELLO"))
    dead = await enqueue(cli, "k")
    await report(server, 1, reject=REJECTED)
    cancelled = await enqueue(cli, "k")
    assert (await cli("cancel", cancelled)).out == f"{cancelled} cancelled\n"
    waiting = await enqueue(cli, "k")

    ended = await cli("wait", done)
    assert (ended.code, ended.out, ended.err) == (0, "HELLO", "")
    ended = await cli("wait", dead)
    assert (ended.code, ended.out) == (5, "")
    assert f"job {dead} is a dead letter (rejected): ValueError: no \\x1b[31mcustomer" in ended.err
    assert f"atlasqueue dead-letters redrive q {dead}" in ended.err
    ended = await cli("wait", cancelled, "-o", "json")
    assert ended.code == 6
    assert ended.lines[0]["state"] == "JOB_STATE_CANCELLED"
    ended = await cli("wait", waiting, "--timeout", "50ms")
    assert ended.code == 7
    assert "has not settled within 0.05 s" in ended.err
    given = "\n".join([done, cancelled, "", dead]).encode()
    ended = await cli("wait", "-", given=given)
    assert ended.code == 5, "the worst of them"
    assert ended.out.splitlines() == [f"{done} succeeded", f"{cancelled} cancelled", f"{dead} dead"]


async def test_what_has_settled_is_told_after_the_time_is_over(cli: Cli) -> None:
    """How it showed: after a job that took all of --timeout, settled ones were said to be not settled."""
    ready, settled = await enqueue(cli, "k"), await enqueue(cli, "k")
    assert (await cli("cancel", settled)).code == 0
    ended = await cli("wait", ready, settled, "--timeout", "100ms")
    assert (ended.code, ended.out) == (7, f"{settled} cancelled\n")
    assert ended.err.count("has not settled within 0.1 s") == 1


async def test_enqueue_may_wait_for_the_result(cli: Cli, server: RunningServer) -> None:
    ended = await cli("enqueue", "q", "k", "--wait-timeout", "50ms")
    assert ended.code == 7
    waiting = asyncio.create_task(cli("enqueue", "q", "k", "--wait", "--priority", "1"))
    leased = await server.workers.LeaseOnce(
        worker_service_pb2.LeaseOnceRequest(
            queues=["q"], worker="test", max_jobs=2, wait={"seconds": 20}
        )
    )
    session = leased.session.session_id
    jobs = list(leased.jobs)
    if len(jobs) == 1:
        more = await server.workers.LeaseOnce(
            worker_service_pb2.LeaseOnceRequest(
                queues=["q"],
                worker="test",
                max_jobs=2,
                wait={"seconds": 20},
                session_id=session,
            )
        )
        jobs += more.jobs
    outcomes = [
        worker_service_pb2.JobOutcome(
            queue="q", job_id=j.job_id, fence=j.fence, complete={"result": b"42"}
        )
        for j in jobs
    ]
    await server.workers.Report(
        worker_service_pb2.ReportRequest(session_id=session, outcomes=outcomes)
    )
    ended = await waiting
    assert (ended.code, ended.out) == (0, "42")


async def test_cancel_goes_on_after_one_that_is_final(cli: Cli, server: RunningServer) -> None:
    ids = [await enqueue(cli, "k") for _ in range(2)]
    await cli("cancel", ids[0])
    ended = await cli("cancel", "-", "--queue", "q", given="\n".join(ids).encode())
    assert ended.code == 1
    assert ended.out == f"{ids[1]} cancelled\n"
    assert f"job {ids[0]} is finished" in ended.err
    running = await enqueue(cli, "k")
    await server.workers.LeaseOnce(worker_service_pb2.LeaseOnceRequest(queues=["q"], worker="test"))
    ended = await cli("cancel", running)
    assert (ended.code, ended.out) == (0, f"{running} is asked to stop\n")
    assert "cancel requested" in (await cli("get", running)).out


async def test_cancel_by_filter_needs_a_yes(cli: Cli, server: RunningServer) -> None:
    running = await enqueue(cli, "a")
    await server.workers.LeaseOnce(worker_service_pb2.LeaseOnceRequest(queues=["q"], worker="test"))
    ready, other = await enqueue(cli, "a"), await enqueue(cli, "b")
    later = await enqueue(cli, "a", "--in", "1h")

    async def waiting() -> list[str]:
        listed = (await cli("list", "q", "--all", "-o", "json")).lines
        states = ("JOB_STATE_READY", "JOB_STATE_SCHEDULED")
        return [job["jobId"] for job in listed if job["state"] in states]

    dry = await cli("cancel", "--queue", "q", "--kind", "a")
    assert (dry.code, dry.out) == (0, "would cancel 2 jobs of q and ask 1 running job to stop\n")
    assert dry.err == "atlasqueue: nothing is done yet; add --yes to do it\n"
    told = (await cli("cancel", "--queue", "q", "--state", "ready", "-o", "json")).lines
    state = {"state": "JOB_STATE_CANCELLED", "dryRun": True}
    assert sorted(told, key=lambda line: line["jobId"]) == [
        {"jobId": job_id, **state} for job_id in (ready, other)
    ]
    assert await waiting() == [ready, other, later], "a dry run does nothing"
    none = await cli("cancel", "--queue", "q", "--created-before", "1h")
    assert (none.code, none.out, none.err) == (0, "would cancel 0 jobs of q\n", "")

    done = await cli("cancel", "--queue", "q", "--state", "scheduled", "--yes")
    assert (done.code, done.out, done.err) == (0, "1 job of q cancelled\n", "")
    assert await waiting() == [ready, other]
    done = await cli("cancel", "--queue", "q", "--kind", "a", "--yes", "-o", "json")
    assert {line["jobId"]: line["state"] for line in done.lines} == {
        ready: "JOB_STATE_CANCELLED",
        running: "JOB_STATE_LEASED",
    }
    assert not any(line["dryRun"] for line in done.lines)
    assert await waiting() == [other]
    done = await cli("cancel", "--queue", "q", "--created-after", "1h", "--yes")
    assert done.out == "1 job of q cancelled\n"
    unknown = await cli("cancel", "--queue", "nope", "--yes")
    assert (unknown.code, unknown.out) == (3, "")


async def test_cancel_by_filter_goes_page_by_page_and_tells_how_far_it_came(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain, "CHUNK", 2)
    given = "\n".join(str(n) for n in range(50)).encode()
    await cli("enqueue", "-", "--queue", "q", "--kind", "k", "--each", "payload", given=given)
    assert (await cli("cancel", "--queue", "q")).out == "would cancel 50 jobs of q\n"
    pages = cancel_many._pages

    def interrupted(connection: Any, request: Any) -> Iterator[Any]:
        yield next(pages(connection, request))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cancel_many, "_pages", interrupted)
        ended = await cli("cancel", "--queue", "q", "--yes")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.endswith(" jobs of q cancelled so far; the same command goes on\n")
    first = int(ended.err.split()[1])
    assert 0 < first < 50
    rest = await cli("cancel", "--queue", "q", "--yes")
    assert rest.out == f"{50 - first} jobs of q cancelled\n"


async def test_tail_shows_each_change_until_the_job_has_settled(
    cli: Cli, server: RunningServer
) -> None:
    job_id = await enqueue(cli, "k")
    process = await asyncio.to_thread(start, "tail", job_id, "-o", "json", server=cli.server)
    assert process.stdout is not None
    first = json.loads(await asyncio.to_thread(process.stdout.readline))
    assert first["state"] == "JOB_STATE_READY"
    await report(server, 1, complete=worker_service_pb2.Complete(result=b"x"))
    rest = await asyncio.to_thread(process.stdout.read)
    assert json.loads(rest.splitlines()[-1])["state"] == "JOB_STATE_SUCCEEDED"
    assert await asyncio.to_thread(process.wait) == 0
    process.communicate()
    (line,) = (await cli("tail", job_id)).out.splitlines()
    assert line.split()[1:] == [job_id, "succeeded"]


async def test_queues(cli: Cli) -> None:
    await enqueue(cli, "k")
    assert (await cli("pause", "q", "other")).out == "q paused\nother paused\n"
    table = (await cli("queues", "list")).out.splitlines()
    assert [line.split() for line in table[1:]] == [
        ["other", *"000000", "paused"],
        ["q", *"100000", "paused"],
    ]
    assert (await cli("resume", "q")).out == "q resumed\n"
    other, q = (await cli("queues", "list", "-o", "json")).lines
    assert (other["name"], other["paused"], q["paused"]) == ("other", True, False)
    assert q["depth"]["ready"] == "1"
    assert "depth" not in (await cli("queues", "list", "-o", "json", "--no-depth")).lines[0]


async def test_a_policy_is_set_shown_and_set_back(cli: Cli) -> None:
    flags = ["--max-attempts", "5", "--max-backoff", "10m", "--visibility-timeout", "2m"]
    (queue,) = (await cli("queues", "policy", "q", *flags, "-o", "json")).lines
    assert queue["policy"] == {
        "retryPolicy": {"maxAttempts": 5, "maxBackoff": "600s"},
        "visibilityTimeout": "120s",
    }
    await cli("queues", "policy", "q", "--reset", "max-attempts", "--reset", "visibility-timeout")
    shown = (await cli("queues", "policy", "q")).out
    values = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert values["max_attempts"] == "20  (default)"
    assert values["max_backoff"] == "10m"
    assert values["visibility_timeout"] == "30s  (default)"


@pytest.mark.parametrize(
    ("act", "done", "every"), [("redrive", "redriven", []), ("purge", "purged", ["--all"])]
)
async def test_dead_letters_need_a_yes(
    cli: Cli, server: RunningServer, act: str, done: str, every: list[str]
) -> None:
    ids = [await enqueue(cli, kind) for kind in ("a", "a", "b")]
    await report(server, 3, reject=REJECTED)

    async def dead() -> list[str]:
        lines = (await cli("dead-letters", "list", "q", "-o", "json")).lines
        return [job["jobId"] for job in lines]

    dry = await cli("dead-letters", act, "q", "--kind", "a")
    assert (dry.code, dry.out) == (0, f"would {act} 2 dead letters of q\n")
    assert "nothing is done yet; add --yes" in dry.err
    assert await dead() == ids
    (told,) = (await cli("dead-letters", act, "q", "--reason", "crash_loop", "-o", "json")).lines
    assert told == {done: "0", "more": False, "dryRun": True}
    one = await cli("dead-letters", act, "q", "--limit", "1", "--yes")
    assert one.out == f"1 dead letter of q {done}\n"
    assert len(await dead()) == 2
    named = await cli("dead-letters", act, "q", ids[2], NOBODY, "--yes")
    assert (named.code, named.out) == (1, f"1 dead letter of q {done}\n")
    assert "1 of the ids are no dead letters of it" in named.err
    (told,) = (await cli("dead-letters", act, "q", *every, "--yes", "-o", "json")).lines
    assert told == {done: "1", "more": False, "dryRun": False}
    assert await dead() == []


async def test_dead_letters_are_listed_and_shown_with_their_errors(
    cli: Cli, server: RunningServer
) -> None:
    job_id, ready = await enqueue(cli, "k"), ""
    await report(server, 1, reject=REJECTED)
    ready = await enqueue(cli, "k")
    row = (await cli("dead-letters", "list", "q", "--reason", "rejected")).out.splitlines()[1]
    assert row.split()[:3] == [job_id, "k", "rejected"]
    assert row.endswith("ValueError: no \\x1b[31mcustomer")
    shown = (await cli("dead-letters", "show", job_id)).out
    assert "stack of fence 1:\n  line 1\n  line 2\n" in shown
    assert "\x1b" not in shown
    ended = await cli("dead-letters", "show", ready)
    assert (ended.code, ended.out) == (1, "")
    assert f"job {ready} is no dead letter: it is ready" in ended.err
    final = await cli("cancel", job_id)
    assert final.code == 1
    assert "atlasqueue dead-letters redrive" in final.err


async def test_workers_cluster_and_top(cli: Cli, server: RunningServer) -> None:
    await enqueue(cli, "k")
    await server.workers.LeaseOnce(
        worker_service_pb2.LeaseOnceRequest(queues=["q"], worker="test-worker")
    )
    assert "test-worker" in (await cli("workers")).out.splitlines()[1]
    (worker,) = (await cli("workers", "-o", "json")).lines
    assert (worker["worker"], worker["leased"], worker["queues"]) == ("test-worker", 1, ["q"])
    assert cli.server in (await cli("cluster")).out
    (cluster,) = (await cli("cluster", "-o", "json")).lines
    assert [s["serverId"] for s in cluster["servers"]] != []
    plain = await cli("top", "--count", "2", "--interval", "0.1")
    assert plain.out.count("QUEUE  READY") == 2
    assert "\x1b" not in plain.out
    (sample,) = (await cli("top", "--count", "1", "-o", "json")).lines
    assert sample["queues"][0]["depth"]["leased"] == "1"
    assert sample["workers"][0]["worker"] == "test-worker"


async def test_a_reader_that_has_seen_enough_is_no_error(cli: Cli) -> None:
    """How it could show: `atlasqueue list | head -1` ended in a BrokenPipeError."""
    await cli("enqueue", "-", given=b'{"queue":"q","kind":"k"}\n' * 3000)
    process = await asyncio.to_thread(start, "list", "q", "--all", "-o", "json", server=cli.server)
    assert process.stdout is not None
    assert process.stderr is not None
    await asyncio.to_thread(process.stdout.readline)
    process.stdout.close()
    errors = await asyncio.to_thread(process.stderr.read)
    assert (await asyncio.to_thread(process.wait), errors) == (0, b"")
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is Linux's")
async def test_a_full_disk_is_told(cli: Cli) -> None:
    """How it showed: `atlasqueue queues list > FILE` on a full disk was told as a bug, with a traceback."""

    def list_to(full: Path) -> tuple[int, bytes]:
        with full.open("wb") as out:
            process = start("cluster", server=cli.server, out=out.fileno())
            _, errors = process.communicate()
        return process.returncode, errors

    code, errors = await asyncio.to_thread(list_to, Path("/dev/full"))
    said = b"atlasqueue: the answer cannot be written: No space left on device\n"
    assert (code, errors) == (1, said)


async def test_ctrl_c_is_the_way_to_end_top(cli: Cli) -> None:
    process = await asyncio.to_thread(start, "top", "--interval", "0.1", server=cli.server)
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, errors) == (0, b"")

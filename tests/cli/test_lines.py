"""`atlasqueue enqueue -`: many lines, whatever they hold and whatever happens meanwhile.

The promise of each test of an interruption is the same: every line is one job, no more and no less.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import subprocess
import time
import uuid
from pathlib import Path

import psycopg
import pytest

from atlasqueue_cli.runs import Run
from tests.cli.running import Cli, start
from tests.plugins.processes import Processes
from tests.ports import free_port

MANY = 100_000
SAME = "0198c5a2-7d1e-7c3a-9b1f-0242ac120002"


def line_of(number: int) -> bytes:
    """A line whose payload is its number."""
    return b'{"queue":"bulk","kind":"k","payloadText":"%d"}\n' % number


def stored(database_url: str) -> list[tuple[uuid.UUID, int]]:
    """Ids and payloads of all jobs, by id."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select job_id, convert_from(payload, 'utf8')::int from atlasqueue.jobs order by job_id"
        ).fetchall()
    return [(job_id, number) for job_id, number in rows]


def count(database_url: str) -> int:
    """How many jobs there are."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select count(*) from atlasqueue.jobs").fetchone()
    assert row is not None
    return int(row[0])


def wait_for_jobs(database_url: str, at_least: int, process: subprocess.Popen[bytes]) -> int:
    """Returns as soon as so many jobs are stored."""
    while (found := count(database_url)) < at_least:
        assert process.poll() is None, "the command ended before so many were stored"
        time.sleep(0.05)
    return found


async def test_bad_lines_are_named_by_number_and_the_others_are_stored(cli: Cli) -> None:
    text = b"\xef\xbb\xbf" + b"\n".join(
        [
            b'{"queue":"q","kind":"a"}\r',
            b"",
            b"   \r",
            b"nope",
            b'{"queue":"bad name","kind":"k","priority":9}',
            b'{"queue":"q","kind":"k","jobId":"%s"}' % SAME.encode(),
            b'{"queue":"q","kind":"k","jobId":"%s"}' % SAME.encode(),
            b'{"queue":"q","kind":"other","jobId":"%s"}' % SAME.encode(),
            b'{"queue":"q","kind":"k","payloadText":"%s"}' % (b"x" * 1_100_000),
            b'{"queue":"q","kind":"k","payloadText":"%s"}' % (b"x" * 5_000_000),
            b'{"queue":"q","kind":"last"}',
        ]
    )
    ended = await cli("enqueue", "-", given=text)
    assert (ended.code, ended.out) == (1, "")
    refused, end, resume = (
        ended.err.splitlines()[:-2],
        ended.err.splitlines()[-2],
        ended.err.splitlines()[-1],
    )
    assert [line.split(": ")[1] for line in refused] == [f"line {n}" for n in (4, 5, 8, 9, 10)]
    told = dict(zip((4, 5, 8, 9, 10), refused, strict=True))
    assert "is not JSON: Expecting value at character 1" in told[4]
    assert "queue: must match [A-Za-z0-9]" in told[5]
    assert "priority: must be 1 to 5" in told[5]
    assert "jobs[" not in told[5]
    assert "with another body" in told[8]
    assert "payload: " in told[9]
    assert "a line has at most 4 MiB" in told[10]
    # Lines 6 and 7 are the same job, which is what the same id means.
    assert end == "atlasqueue: 4 jobs committed, 5 refused"
    listed = (await cli("list", "q", "-o", "json")).lines
    assert sorted(job["kind"] for job in listed) == ["a", "k", "last"]
    assert "--resume" in resume


async def test_mended_lines_enter_and_the_others_stay_one_job(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_bytes(line_of(1) + b"nope\n" + line_of(3))
    assert (await cli("enqueue", f"@{file}")).code == 1
    run = (await cli("list", "bulk", "-o", "json")).lines[0]["jobId"]
    # The run is named by the id of its line 0.
    first = Run(uuid.UUID(run).int >> 80, uuid.UUID(run).int & ((1 << 42) - 1))
    file.write_bytes(line_of(1) + line_of(2) + line_of(3))
    ended = await cli("enqueue", f"@{file}", "--resume", str(first))
    assert (ended.code, ended.err) == (0, "atlasqueue: 3 jobs committed\n")
    assert [job["jobId"] for job in (await cli("list", "bulk", "-o", "json")).lines] == [
        first.job_id(n) for n in (1, 2, 3)
    ]


async def test_json_output_has_a_line_for_each_line(cli: Cli) -> None:
    given = line_of(1) + b"nope\n\n" + line_of(4).rstrip()
    ended = await cli("enqueue", "-", "-o", "json", "--quiet", given=given)
    assert ended.code == 1
    one, two, four = ended.lines
    assert (one["line"], one["queue"]) == (1, "bulk")
    assert two["line"] == 2
    assert two["error"]["code"] == 3
    assert two["error"]["reason"] == "INVALID_FIELD"
    assert four["line"] == 4
    assert uuid.UUID(four["jobId"]).version == 7


async def test_flags_are_defaults_and_a_line_may_be_a_payload(cli: Cli) -> None:
    flags = ["--queue", "q", "--kind", "k", "--header", "a=1", "--in", "1h", "--priority", "2"]
    ended = await cli("enqueue", "-", *flags, "--each", "payload", given=b'one\n\n{"two\r\n')
    assert (ended.code, ended.err) == (0, "atlasqueue: 2 jobs committed\n")
    listed = (await cli("list", "q", "-o", "json")).lines
    jobs = [(await cli("get", job["jobId"], "-o", "json")).lines[0] for job in listed]
    assert [job["payload"] for job in jobs] == ["b25l", "eyJ0d28="]
    for job in jobs:
        assert (job["priority"], job["headers"], job["state"]) == (
            2,
            {"a": "1"},
            "JOB_STATE_SCHEDULED",
        )


async def test_too_many_refused_lines_stop_the_run(cli: Cli) -> None:
    ended = await cli("enqueue", "-", "--max-refused", "2", given=b"nope\n" * 5000)
    assert ended.code == 1
    assert ended.err.count(": line ") == 3
    assert "stopped: more than 2 lines were refused (--max-refused)" in ended.err


async def test_no_lines_are_no_error(cli: Cli) -> None:
    ended = await cli("enqueue", "-", given=b"\n\n")
    assert (ended.code, ended.err) == (0, "atlasqueue: 0 jobs committed\n")


async def test_a_slow_pipe_is_sent_line_by_line(cli: Cli) -> None:
    process = await asyncio.to_thread(start, "enqueue", "-", "-o", "json", server=cli.server)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in (1, 2, 3):
        process.stdin.write(line_of(number))
        process.stdin.flush()
        answer = json.loads(await asyncio.to_thread(process.stdout.readline))
        assert answer["line"] == number, "stored while the pipe is still open"
    _, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, errors) == (0, b"atlasqueue: 3 jobs committed\n")


@pytest.mark.timeout(300)
def test_a_hundred_thousand_lines_survive_a_server_that_is_killed(
    processes: Processes, migrated_database_url: str, tmp_path: Path
) -> None:
    server = processes.server(migrated_database_url)
    process = start("enqueue", "-", server=server.address)
    assert process.stdin is not None
    lines = [line_of(number) for number in range(1, MANY + 1)]
    # The second half is held back, so that the server dies with lines before and after it.
    process.stdin.write(b"".join(lines[: MANY // 2]))
    killed_with = wait_for_jobs(migrated_database_url, MANY // 4, process)
    server.kill()
    assert killed_with < MANY
    processes.server(migrated_database_url, address=server.address)
    _, errors = process.communicate(b"".join(lines[MANY // 2 :]), timeout=240)
    told = errors.decode()
    assert process.returncode == 0, told
    jobs = stored(migrated_database_url)
    # None lost, none twice, and ids in the order of the lines.
    assert [number for _, number in jobs] == list(range(1, MANY + 1))
    assert "no answer from" in told
    assert "a server answers again" in told
    assert told.endswith("atlasqueue: 100 000 jobs committed\n")
    assert re.search(r"^atlasqueue: [\d ]+ jobs committed, [\d ]+/s$", told, re.MULTILINE), told


def resumed(errors: str) -> list[str]:
    """The arguments of the command that goes on, as the broken run printed it."""
    command = shlex.split(errors[errors.index("atlasqueue enqueue -") :].strip())
    assert command[0] == "atlasqueue"
    return command[1:]


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, "stopped by Ctrl-C"), (signal.SIGTERM, 143, "stopped by SIGTERM")],
)
async def test_an_interrupted_run_says_how_to_go_on(
    cli: Cli, migrated_database_url: str, number: signal.Signals, code: int, says: str
) -> None:
    """How it showed: closing standard input waited for the thread that read from it, for ever."""
    lines = [line_of(n) for n in range(1, 10_001)]

    def interrupt() -> str:
        process = start("enqueue", "-", "--in", "1h", server=cli.server)
        assert process.stdin is not None
        process.stdin.write(b"".join(lines[:8000]))
        process.stdin.flush()
        wait_for_jobs(migrated_database_url, 2000, process)
        process.send_signal(number)
        assert process.stderr is not None
        told = process.stderr.read().decode()
        process.communicate()
        assert process.returncode == code, told
        return told

    told = await asyncio.to_thread(interrupt)
    assert says in told
    assert "Traceback" not in told
    ended = await cli(*resumed(told), given=b"".join(lines))
    # The time of --in is counted from the first run, so that the bodies are the same.
    assert ended.code == 0, ended.err
    assert [n for _, n in stored(migrated_database_url)] == list(range(1, 10_001))


def test_a_server_that_never_comes_back_is_given_up(
    processes: Processes, migrated_database_url: str
) -> None:
    server = processes.server(migrated_database_url)
    # It was 2 s, and a busy machine took longer for a call to a server that lived.
    process = start("enqueue", "-", "--retry-for", "6", server=server.address)
    assert process.stdin is not None
    process.stdin.write(b"".join(line_of(n) for n in range(1, 3001)))
    process.stdin.flush()
    wait_for_jobs(migrated_database_url, 3000, process)
    server.kill()
    process.stdin.write(line_of(3001))
    process.stdin.flush()
    # How much of what is stored was also acknowledged is up to the moment of the kill.
    _, errors = process.communicate(timeout=100)
    told = errors.decode()
    assert process.returncode == 4, told
    assert f"no server answers at {server.address}" in told
    (settled,) = re.findall(r" jobs committed; lines 1 to (\d+) are settled", told)
    assert "trying for 6 s" in told
    assert resumed(told)[-1].endswith(f":{int(settled) + 1}")


async def test_a_list_of_servers_needs_only_one_that_answers(cli: Cli) -> None:
    servers = f"127.0.0.1:{free_port()},{cli.server}"
    ended = await cli("enqueue", "-", "--quiet", "--server", servers, given=line_of(1) + line_of(2))
    assert ended.code == 0, ended.err
    assert len((await cli("list", "bulk", "-o", "json")).lines) == 2


async def test_output_that_nobody_reads_stops_the_run_and_says_so(cli: Cli) -> None:
    """A pipe that closes must not look like success: lines would be missing without a word."""

    def close_and_feed() -> tuple[int, bytes]:
        process = start("enqueue", "-", "-o", "json", server=cli.server)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"".join(line_of(n) for n in range(1, 9001)), timeout=60)
        return process.returncode, errors

    code, errors = await asyncio.to_thread(close_and_feed)
    assert code == 1
    assert b"Broken pipe" in errors
    assert b"--resume" in errors

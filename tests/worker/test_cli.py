"""The command atlasqueue-worker, as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from atlasqueue import AsyncClient, JobState, NewJob, Tls
from atlasqueue_server.app import Application
from atlasqueue_worker.worker import default_name
from tests.plugins.processes import Child, Processes
from tests.plugins.server import RunningServer, config_for
from tests.waiting import eventually

APP = "tests.system.apps:app"


def run(
    *arguments: str, directory: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    command = [sys.executable, "-m", "atlasqueue_worker", "run", *arguments]
    # A narrow terminal would break the messages.
    environment = {"COLUMNS": "300", **environment}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=directory, env=environment
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "must be MODULE:APP"),
        (["nowhere:app"], "there is no module nowhere"),
        (["json:app"], "json has no App named app"),
        (["json:loads"], "json has no App named loads"),
        ([APP, "--server", "nonsense"], "it must be host:port"),
        ([APP, "--slots", "0"], "greater than or equal to 1"),
        ([APP, "--log-level", "loud"], "--log-level is debug"),
        ([APP, "--tls-cert", "cert.pem"], "must be given together"),
        ([APP, "--tls-ca", "/nowhere.pem"], "/nowhere.pem cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said(arguments: list[str], says: str) -> None:
    process = run(*arguments)
    assert process.returncode == 2
    assert says in process.stderr
    assert "Traceback" not in process.stderr


def test_an_app_without_handlers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text("from atlasqueue_worker import App\napp = App()\n")
    process = run("idle:app", directory=tmp_path)
    assert process.returncode == 2
    assert "has no handlers" in process.stderr


def test_a_module_that_the_handlers_import_is_named(tmp_path: Path) -> None:
    """How it showed: "there is no module requests: run from its directory", for jobs.py that imports it."""
    (tmp_path / "jobs.py").write_text("import no_such_package.part\n")
    process = run("jobs:app", directory=tmp_path)
    assert process.returncode == 2
    assert "jobs imports no_such_package, which is not installed" in process.stderr


def test_what_the_handlers_module_raises_is_a_plain_traceback(tmp_path: Path) -> None:
    """How it showed: five screens of boxes, with the frames of the libraries that had called it."""
    (tmp_path / "jobs.py").write_text("raise RuntimeError('no settings')\n")
    process = run("jobs:app", directory=tmp_path)
    assert process.stderr.endswith("RuntimeError: no settings\n")
    assert "╭" not in process.stderr


def test_the_server_is_named_as_for_the_command_line() -> None:
    """How it showed: docs/cli.md exports ATLASQUEUE_SERVER, and the worker called the default all the same."""
    process = run(APP, ATLASQUEUE_SERVER="nonsense", ATLASQUEUE_ADDRESS="a:1")
    assert process.returncode == 2
    assert "it must be host:port" in process.stderr


def test_a_list_of_queues_that_names_none_is_refused() -> None:
    """How it showed: `--queues ","`, a script's empty variable with a comma, served every queue there is a handler for."""
    process = run(APP, "--queues", ",")
    assert process.returncode == 2
    assert "--queues names none" in process.stderr


@pytest.mark.parametrize(("host", "name"), [("zählwerk.de", "z-hlwerk.de"), ("..", "worker")])
def test_the_default_name_fits_the_contract(
    host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it showed: letters beyond ASCII were let through, and the server refused the session."""
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert default_name().rpartition("-")[0] == name


async def test_terms_that_the_server_refuses_are_one_line(
    server: RunningServer, processes: Processes
) -> None:
    """How it showed: the worker asked for ever, with a warning each time."""
    worker = processes.worker(APP, server.grpc_address, "--queues", "bad queue")

    async def ended() -> bool:
        return worker.process.poll() is not None

    await eventually(ended, within_s=40)
    assert worker.process.returncode == 1
    assert "error: queues[0]: must match" in worker.log.read_text()


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        ("stop-loop", 1, "error: a handler stopped the worker's event loop"),
        ("interrupt", 130, "error: a handler raised KeyboardInterrupt"),
    ],
)
async def test_a_handler_that_ends_the_worker_is_told_and_no_thread_keeps_the_process(
    server: RunningServer, processes: Processes, kind: str, code: int, says: str
) -> None:
    """How it showed: a traceback of the event loop's, or nothing at all; and with a plain handler that ran on, the
    process stayed for ever, without a worker in it."""
    worker = processes.worker("tests.system.apps:ending", server.grpc_address)
    async with AsyncClient(server.grpc_address) as client:
        await client.enqueue_many([NewJob("ending", "stay"), NewJob("ending", kind)])

    async def ended() -> bool:
        return worker.process.poll() is not None

    await eventually(ended, within_s=40)
    log = worker.log.read_text()
    assert worker.process.returncode == code
    assert says in log
    assert kind == "interrupt" or log.rstrip().endswith("stop-loop")
    assert "Traceback" not in log


async def _holding(server: RunningServer, processes: Processes, *options: str) -> tuple[Child, str]:
    """A worker that runs a handler which does not end, and the job's id."""
    worker = processes.worker(
        APP, server.grpc_address, "--queues", "held", "--log-format", "json", *options
    )
    async with AsyncClient(server.grpc_address) as client:
        job_id = await client.enqueue("held", "hold-once")

        async def leased() -> bool:
            return (await client.get(job_id)).state is JobState.LEASED

        await eventually(leased)
    return worker, job_id


@pytest.mark.parametrize("twice", [False, True])
async def test_sigterm_gives_back_what_does_not_end(
    server: RunningServer, processes: Processes, twice: bool
) -> None:
    """After the grace, or at once when it is told again: no attempt is spent, the exit code is 0."""
    worker, job_id = await _holding(server, processes, "--grace", "60" if twice else "0.1")
    began = time.monotonic()
    worker.process.terminate()

    async def draining() -> bool:
        return '"draining"' in worker.log.read_text()

    await eventually(draining)
    if twice:
        worker.process.terminate()

    async def ended() -> bool:
        return worker.process.poll() is not None

    await eventually(ended, within_s=40)
    assert worker.process.returncode == 0
    assert time.monotonic() - began < 50
    for line in worker.log.read_text().splitlines():
        json.loads(line)
    async with AsyncClient(server.grpc_address) as client:
        job = await client.get(job_id)
    assert (job.state, job.attempt, job.crashes) == (JobState.READY, 0, 0)


@pytest.mark.parametrize("mutual", [False, True])
async def test_a_worker_talks_to_a_server_with_tls(
    migrated_database_url: str, processes: Processes, tmp_path: Path, mutual: bool
) -> None:
    """How it showed: the server had flags for TLS, the worker had none, so that they could not meet."""
    authority = trustme.CA()
    files = {
        name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key", "own-cert", "own-key")
    }
    authority.cert_pem.write_to_path(str(files["ca"]))
    for prefix, name in (("", "127.0.0.1"), ("own-", "worker.test")):
        pair = authority.issue_cert(name)
        pair.cert_chain_pems[0].write_to_path(str(files[f"{prefix}cert"]))
        pair.private_key_pem.write_to_path(str(files[f"{prefix}key"]))
    settings = {"tls_cert": files["cert"], "tls_key": files["key"]}
    own = Tls(files["ca"])
    options = ["--tls-ca", str(files["ca"])]
    if mutual:
        settings["tls_client_ca"] = files["ca"]
        own = Tls(files["ca"], files["own-cert"], files["own-key"])
        options += ["--tls-cert", str(files["own-cert"]), "--tls-key", str(files["own-key"])]
    application = Application(config_for(migrated_database_url, **settings))
    await application.start()
    try:
        address = f"127.0.0.1:{application.grpc_port}"
        processes.worker(APP, address, "--queues", "busy", *options)
        async with AsyncClient(address, tls=own) as client:
            job_id = await client.enqueue("busy", "quick", b"sealed")
            assert (await client.wait(job_id, timeout=40)).result == b"sealed"
    finally:
        for child in processes.children:
            child.kill()
        await application.drain()
        await application.stop()

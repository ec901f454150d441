"""The fixtures for users' tests, as a user would write one."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USERS_TEST = """
from atlasqueue_worker import App
from atlasqueue_worker.testing import running_worker

def test_a_job_is_worked(atlasqueue_server, atlasqueue_client, atlasqueue_queue):
    app = App()
    app.job("shout", queue=atlasqueue_queue)(lambda job: job.payload.upper())
    job_id = atlasqueue_client.enqueue(atlasqueue_queue, "shout", b"hello")
    with running_worker(app, atlasqueue_server.address) as worker:
        assert atlasqueue_client.wait(job_id, timeout=30).result == b"HELLO"
    assert worker.completed == 1

def test_another_has_a_queue_of_its_own(atlasqueue_client, atlasqueue_queue):
    atlasqueue_client.enqueue(atlasqueue_queue, "shout")
    assert atlasqueue_client.queues.depth(atlasqueue_queue).ready == 1
"""


def test_a_users_test_runs(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["atlasqueue_server.pytest_plugin"]')
    pytester.makepyfile(USERS_TEST)
    pytester.makeini("[pytest]")
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    done.assert_outcomes(passed=2)

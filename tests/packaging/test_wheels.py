"""Both wheels, installed into an empty environment, migrate a database."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(directory: Path, out: Path) -> Path:
    """Builds the wheel of a distribution with the backend that is installed here."""
    script = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The SDK's and the server's wheel."""
    out = tmp_path_factory.mktemp("wheels")
    return [build(ROOT / "clients" / "python", out), build(ROOT, out)]


def test_the_wheels_hold_what_they_need(wheels: list[Path]) -> None:
    sdk, server = (set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels)
    assert {"atlasqueue/client.py", "atlasqueue/v1/job_pb2.py", "atlasqueue/py.typed"} <= sdk
    assert {
        "atlasqueue_server/migrations/0001_initial.sql",
        "atlasqueue_server/store/sql/enqueue_jobs_if_new.sql",
        "atlasqueue_server/http/openapi.json",
        "atlasqueue_server/http/reference/style.css",
        "atlasqueue_worker/cli.py",
        "atlasqueue_cli/main.py",
    } <= server
    assert not [name for name in sdk | server if name.startswith(("tests/", "examples/"))]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_an_empty_environment_migrates_a_database(
    wheels: list[Path], database_url: str, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    binaries = tmp_path / "env" / "bin"
    # The dependencies are those of this environment, so that no registry is needed.
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    here = next((Path(sys.prefix) / "lib").glob("python*/site-packages"))
    install = [binaries / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, *wheels], check=True, cwd=tmp_path)
    (site / "dependencies.pth").write_text(f"{here}\n")
    command = [binaries / "atlasqueue-server", "migrate", "--database-url", database_url]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    where = "import atlasqueue_server, atlasqueue; print(atlasqueue_server.__file__, atlasqueue.__file__)"
    loaded = subprocess.run(
        [binaries / "python", "-c", where], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert all(str(tmp_path) in path for path in loaded.stdout.split())
    again = subprocess.run(
        [binaries / "atlasqueue-server", "migrate", "--dry-run", "--database-url", database_url],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    assert (binaries / "atlasqueue-worker").exists()
    told = subprocess.run(
        [binaries / "atlasqueue", "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "atlasqueue enqueue" in told.stdout, told.stderr

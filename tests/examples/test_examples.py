"""Every example does what its README says, run as its README says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, run, steps_of

# The first build on a machine compiles gRPC.
BUILD_S = 600

# The demo has `make demo`: half a minute is too long for each run of the tests.
EXAMPLES = sorted(
    page.parent.name
    for page in (ROOT / "examples").glob("*/README.md")
    if "python -m" in page.read_text()
)


# It waits for its own schedule.
SLOW = ("periodic",)


def has_go(name: str) -> bool:
    """Whether an example is partly written in Go."""
    return any((ROOT / "examples" / name).glob("*/main.go"))


def build_go() -> None:
    """Fills Go's cache, so that the example itself starts as fast as on a machine where it has run."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    subprocess.run(
        ["go", "build", "-buildvcs=false", "./..."],
        cwd=ROOT / "examples",
        env=os.environ | {"GOTOOLCHAIN": "auto"},
        timeout=BUILD_S,
        check=True,
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if has_go(name) or name in SLOW else ())
        for name in EXAMPLES
    ],
)
async def test_an_example_does_what_its_readme_says(name: str) -> None:
    if has_go(name):
        build_go()
    page = ROOT / "examples" / name / "README.md"
    await run(steps_of(page, {"python -m": f"{sys.executable} -m"}), ROOT)


def test_every_example_has_a_readme_that_the_index_names() -> None:
    index = (ROOT / "examples" / "README.md").read_text()
    for directory in (ROOT / "examples").iterdir():
        if (Path(directory) / "__init__.py").exists():
            assert (directory / "README.md").exists(), f"{directory.name} has no README"
            assert f"]({directory.name}/README.md)" in index, (
                f"{directory.name} is not in the index"
            )

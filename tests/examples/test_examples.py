"""Every example does what its README says, run as its README says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, run, steps_of

# The demo has `make demo`: half a minute is too long for each run of the tests.
EXAMPLES = sorted(
    page.parent.name
    for page in (ROOT / "examples").glob("*/README.md")
    if "python -m" in page.read_text()
)


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_does_what_its_readme_says(name: str) -> None:
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

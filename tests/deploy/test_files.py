"""The files of deploy/: each check of `make verify-deploy` that needs no running system."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.checks import static
from deploy.grafana.boards import within
from deploy.grafana.build import files
from deploy.grafana.panels import DATASOURCE


@pytest.mark.parametrize("check", static.checks(), ids=lambda check: check.__name__)
def test_check_finds_nothing(check: Callable[[], list[str]]) -> None:
    try:
        assert check() == []
    except static.Missing as missing:
        pytest.skip(f"a tool of make verify-deploy: {missing}")


def test_the_type_check_finds_what_it_is_there_for() -> None:
    """Without this a compiler that looks at nothing would pass for a dashboard without mistakes."""
    if not (static.TOOLS / "deploy" / "grafana" / ".installed").exists():
        pytest.skip("a tool of make verify-deploy: tsc is not installed: run `make tools`")
    path, text = next(iter(files().items()))
    for place, wrong in ((("refresh",), 30), (("panels", 1, "title"), None)):
        board: Any = json.loads(text)
        inner = board
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = wrong
        broken = {path.with_name("broken.json"): json.dumps(board)}
        found = static.typecheck.problems(broken, static.TOOLS / "deploy" / "grafana")
        assert any("broken.ts" in line and "TS2322" in line for line in found), found


def test_a_stat_counts_what_a_counter_began_with(tmp_path: Path) -> None:
    """How it showed: 20 jobs of a kind died between two scrapes, and Overview told of none."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("a tool of make verify-deploy: promtool is not installed: run `make tools`")
    expr = f"round({within('died_total', '1h').expr})"
    old, new, reset = (f'died_total{{instance="{name}"}}' for name in ("old", "new", "reset"))
    cases = {
        "none yet": ([], 0),
        "a burst, an old counter that rests": ([(new, "_x100 20x20"), (old, "500x120")], 20),
        "a restart": ([(reset, "3x100 0x4 5x16")], 5),
    }
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in given],
            "promql_expr_test": [
                {"expr": expr, "eval_time": "2h", "exp_samples": [{"labels": "{}", "value": died}]}
            ],
        }
        for name, (given, died) in cases.items()
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"tests": tests}))
    assert static.run(promtool, "test", "rules", str(file)) == []


def test_panels_ask_the_datasource_of_the_variable() -> None:
    for text in files().values():
        board = json.loads(text)
        assert board["templating"]["list"][0]["name"] == "datasource"
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in board["panels"]:
            if panel["type"] != "row":
                assert panel["targets"]
                assert panel["datasource"] == DATASOURCE
                assert all(target["datasource"] == DATASOURCE for target in panel["targets"])


def test_the_image_can_use_the_lock_as_constraints() -> None:
    """pip refused them for an extra (`psycopg[binary]`), and no linter of Dockerfiles sees that."""
    line = re.search(
        r"^RUN (sed .*) requirements.lock >",
        (static.DEPLOY / "Dockerfile").read_text(),
        re.MULTILINE,
    )
    assert line
    made = subprocess.run(
        ["bash", "-c", f"{line[1]} requirements.lock"],
        cwd=static.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pinned = re.compile(r"[A-Za-z0-9._-]+==[^ \[\\]+( ; .*[^\\ ])?")
    wrong = [it for it in made.splitlines() if not it.startswith("#") and not pinned.fullmatch(it)]
    assert wrong == []
    assert len(made.splitlines()) > 40


def test_the_image_is_built_from_every_package() -> None:
    """How it showed: the command line came later, and `atlasqueue` in the image found no module of its own."""
    project = tomllib.loads((static.ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = (static.DEPLOY / "Dockerfile").read_text().splitlines()
    sent = (static.ROOT / ".dockerignore").read_text().splitlines()
    assert [it for it in packages if f"COPY {it} {it}" not in copied] == []
    assert [it for it in packages if f"!{it}" not in sent] == []

"""Checks that need no running system. Each returns the problems it found; none is good."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.grafana import build, typecheck

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = Path(os.environ.get("ATLASQUEUE_TOOLS", ROOT / ".tools"))
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
ALERTS_TEST = DEPLOY / "prometheus" / "alerts_test.yml"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
KUBERNETES_VERSION = "1.34"


class Missing(Exception):
    """A tool that a check needs is not installed; the text names it."""


def tool(*candidates: str | Path) -> str:
    """The first of these programs that exists. Raises Missing."""
    for candidate in candidates:
        if found := shutil.which(str(candidate)):
            return found
    raise Missing(f"{Path(candidates[-1]).name} is not installed: run `make tools`")


def run(*command: str, text: str | None = None, cwd: Path = ROOT) -> list[str]:
    """What a program that failed said."""
    done = subprocess.run(
        command, input=text, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode == 0:
        return []
    return (done.stdout + done.stderr).splitlines() or [f"ended with {done.returncode}"]


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check_dashboards_are_built() -> list[str]:
    """The JSON is what boards.py says."""
    return [f"{path.name}: run python -m deploy.grafana.build" for path in build.stale()]


def check_dashboards_types() -> list[str]:
    """The JSON fits Grafana's published types."""
    tool("node")
    if not (TOOLS / "deploy" / "grafana" / ".installed").exists():
        raise Missing("tsc with @grafana/schema is not installed: run `make tools`")
    return typecheck.problems(build.files(), TOOLS / "deploy" / "grafana")


def check_prometheus_config() -> list[str]:
    """promtool check config, which checks the rules as well."""
    return run(tool("promtool"), "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


def check_rules() -> list[str]:
    """promtool test rules."""
    return run(tool("promtool"), "test", "rules", str(ALERTS_TEST))


def check_runbooks() -> list[str]:
    """Every alert has a section that its link leads to, and cases in which it fires and does not."""
    return list(_runbook_problems())


def _runbook_problems() -> Iterator[str]:
    sections = set(re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE))
    names = {rule["alert"] for rule in rules()}
    for rule in rules():
        name = rule["alert"]
        if rule["annotations"]["runbook_url"] != f"docs/runbooks.md#{name.lower()}":
            yield f"{name}: runbook_url leads elsewhere"
        if name not in sections:
            yield f"{name}: has no section in docs/runbooks.md"
        cases = [case["exp_alerts"] for case in _cases() if case["alertname"] == name]
        if not any(cases) or all(cases):
            yield f"{name}: needs a case in which it fires and one in which it is quiet"
    for name in sections - names:
        yield f"docs/runbooks.md: there is no alert {name}"


def _cases() -> list[dict[str, Any]]:
    tests = yaml.safe_load(ALERTS_TEST.read_text())["tests"]
    return [case for test in tests for case in test["alert_rule_test"]]


def check_compose() -> list[str]:
    """The compose file fits the compose specification, and what it mounts exists."""
    compose = DEPLOY / "compose.yaml"
    problems = run(tool(TOOLS / "bin" / "compose-check"), str(compose))
    for name, service in yaml.safe_load(compose.read_text())["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (DEPLOY / source).exists():
                problems.append(f"{name} mounts {source}, which does not exist")
    return problems


def check_dockerfile() -> list[str]:
    """hadolint."""
    return run(
        tool(Path(sys.executable).parent / "hadolint", "hadolint"), str(DEPLOY / "Dockerfile")
    )


def check_kubernetes() -> list[str]:
    """The example fits the schemas of Kubernetes; unknown fields are errors."""
    program = tool(TOOLS / "deploy" / "venv" / "bin" / "kubernetes-validate")
    options = ["--strict", "--quiet", "-k", KUBERNETES_VERSION]
    return run(program, *options, *map(str, sorted((DEPLOY / "kubernetes").glob("*.yaml"))))


def checks() -> Sequence[Any]:
    """All checks of this module."""
    return [value for name, value in globals().items() if name.startswith("check_")]

"""A real Prometheus to ask, and the expressions of dashboards and rules."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.checks.static import rules
from deploy.grafana.build import files

SELECTOR = re.compile(r"\b(?:atlasqueue_\w+|up)\b(?:\{[^}]*\})?")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Asks a Prometheus."""

    url: str

    async def series(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now."""
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.url}/api/v1/query", params={"query": expression})
        tree = answer.json()
        assert tree["status"] == "success", f"{expression}: {tree}"
        return tree["data"]["result"]

    async def value(self, expression: str) -> float | None:
        """The value of an expression with one series; None while there is none."""
        found = await self.series(expression)
        assert len(found) < 2, f"{expression}: {len(found)} series"
        return float(found[0]["value"][1]) if found else None


def dashboard_expressions() -> list[str]:
    """All of them, as Grafana would send them."""
    found = []
    for text in files().values():
        for panel in json.loads(text)["panels"]:
            found += [target["expr"] for target in panel.get("targets", [])]
    return [
        expr.replace("$__rate_interval", "1m").replace("$queue", ".*")
        for expr in dict.fromkeys(found)
    ]


def alert_expressions() -> list[str]:
    """All of them; an alert that is quiet has no series."""
    return [rule["expr"] for rule in rules()]


def alert_selectors() -> list[str]:
    """What the alerts look at: each must have series whether the alert fires or not."""
    return sorted({name for expr in alert_expressions() for name in SELECTOR.findall(expr)})

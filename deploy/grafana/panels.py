"""Panels and dashboards as Grafana's JSON: the few forms that ours need, and nothing that is null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 41
WIDTH = 24
INTERVAL = "$__rate_interval"

Json = dict[str, Any]
# (from this value on, colour): the first threshold has no value, it holds from minus infinity.
Steps = Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the name of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `unit` is one of Grafana's; `steps` colour a stat from green on."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    form: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    stacked: bool = False
    steps: Steps = ()
    base: str = "green"
    about: str = ""
    words: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; `uid` is its file's name as well. `by_queue` adds the variable $queue."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    by_queue: bool = False


def dashboard(board: Board, others: Sequence[Board]) -> Json:
    """The dashboard as Grafana loads it."""
    return {
        "uid": board.uid,
        "title": f"AtlasQueue: {board.title}",
        "description": board.about,
        "tags": ["atlasqueue"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [_link(other) for other in others if other is not board],
        "templating": {"list": _variables(board)},
        "annotations": {"list": []},
        "panels": _place(board.rows),
    }


def _link(board: Board) -> Json:
    return {
        "type": "link",
        "title": board.title,
        "url": f"/d/{board.uid}",
        "tooltip": board.about,
        "icon": "dashboard",
        "tags": [],
        "asDropdown": False,
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
    }


def _variables(board: Board) -> list[Json]:
    datasource = {
        "type": "datasource",
        "name": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "refresh": 1,
    }
    query = "label_values(atlasqueue_queue_jobs, queue)"
    queue = {
        "type": "query",
        "name": "queue",
        "label": "Queue",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "queue"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": "All", "value": "$__all"},
    }
    return [datasource, queue] if board.by_queue else [datasource]


def _place(rows: Sequence[Row]) -> list[Json]:
    placed: list[Json] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        number = len(placed) + 1
        placed.append(
            {"type": "row", "id": number, "title": row.title, "collapsed": False}
            | {"gridPos": place, "panels": []}
        )
        y += 1
        x = tallest = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            height = 4 if panel.form == "stat" else 8
            place = {"x": x, "y": y, "w": panel.width, "h": height}
            placed.append(_panel(panel) | {"id": len(placed) + 1, "gridPos": place})
            x, tallest = x + panel.width, max(tallest, height)
        y += tallest
    return placed


def _panel(panel: Panel) -> Json:
    made = {
        "type": panel.form,
        "title": panel.title,
        "datasource": DATASOURCE,
        "targets": [_target(number, query) for number, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _STAT if panel.form == "stat" else _TIMESERIES,
    }
    return made | ({"description": panel.about} if panel.about else {})


def _target(number: int, query: Query) -> Json:
    target = {"refId": chr(ord("A") + number), "expr": query.expr, "datasource": DATASOURCE}
    return target | ({"legendFormat": query.legend} if query.legend else {})


def _defaults(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "min": 0}
    if panel.form == "timeseries":
        stacking = {"stacking": {"mode": "normal", "group": "A"}} if panel.stacked else {}
        fill = 30 if panel.stacked else 10
        return defaults | {"custom": {"lineWidth": 1, "fillOpacity": fill} | stacking}
    # Grafana's first step is the one without a value.
    steps: list[Json] = [{"value": None, "color": panel.base}]
    steps += [{"value": value, "color": color} for value, color in panel.steps]
    defaults |= {
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.words:
        options = {value: {"text": text} for value, text in panel.words}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return defaults


_TIMESERIES: Json = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_STAT: Json = {
    "colorMode": "background",
    "graphMode": "area",
    "justifyMode": "auto",
    "textMode": "auto",
    "orientation": "auto",
    "wideLayout": True,
    "showPercentChange": False,
    "percentChangeColorMode": "standard",
    "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
}

"""Checks the dashboards against Grafana's published schema types, with the TypeScript compiler.

JSON becomes the initializer of a typed constant, so the compiler finds what a schema would: a wrong type, a
missing field, and (for an object literal) a field that does not exist. Options and custom field settings of
a panel are typed by its plugin, so these are checked on their own.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECK = Path(__file__).parent / "check"
# Our form of panel → module of its plugin's types, and the name of its custom field settings.
PLUGINS = {"timeseries": "TimeSeries", "stat": "Stat"}
_OPTIONS = [
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--target",
    "es2022",
    "--module",
    "nodenext",
    "--moduleResolution",
    "nodenext",
]


def source(dashboard: dict[str, Any]) -> str:
    """TypeScript that compiles if and only if `dashboard` fits the types."""
    lines = [
        "import type { Dashboard, Panel, RowPanel } from '@grafana/schema';",
        "import type { Loose } from './loose';",
    ]
    for form, module in PLUGINS.items():
        path = (
            f"@grafana/schema/dist/esm/raw/composable/{form}/panelcfg/x/{module}PanelCfg_types.gen"
        )
        lines.append(f"import type * as {form} from '{path}';")
    frame = {key: value for key, value in dashboard.items() if key != "panels"}
    lines.append(_constant("dashboard", "Loose<Dashboard>", frame))
    for number, panel in enumerate(dashboard["panels"]):
        lines += _panel(number, panel)
    return "\n".join(lines) + "\n"


def problems(files: dict[Path, str], tools: Path) -> list[str]:
    """What the compiler of `tools` (where npm installed it) says of the dashboards in `files`."""
    compiler = tools / "node_modules" / "typescript" / "bin" / "tsc"
    # Beside node_modules, where the compiler looks for packages.
    (tools / "loose.ts").write_text((CHECK / "loose.ts").read_text())
    sources = []
    for path, text in files.items():
        target = tools / f"{path.stem}.ts"
        target.write_text(source(json.loads(text)))
        sources.append(target.name)
    command = ["node", str(compiler), *_OPTIONS, *sources]
    done = subprocess.run(command, cwd=tools, capture_output=True, text=True, timeout=300)
    if done.returncode == 0:
        return []
    return (done.stdout + done.stderr).splitlines() or [f"tsc ended with {done.returncode}"]


def _panel(number: int, panel: dict[str, Any]) -> Iterator[str]:
    form = panel["type"]
    if form == "row":
        yield _constant(f"row{number}", "Loose<RowPanel>", panel)
        return
    yield _constant(f"panel{number}", "Loose<Panel>", panel)
    yield _constant(f"options{number}", f"Loose<{form}.Options>", panel["options"])
    custom = panel["fieldConfig"]["defaults"].get("custom")
    if custom is not None:
        yield _constant(f"custom{number}", f"Loose<{form}.FieldConfig>", custom)


def _constant(name: str, kind: str, value: Any) -> str:
    return f"export const {name}: {kind} = {json.dumps(value)};"

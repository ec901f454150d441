"""Writes deploy/grafana/dashboards/*.json from boards.py: python -m deploy.grafana.build [--check]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from deploy.grafana.boards import BOARDS
from deploy.grafana.panels import dashboard

DIRECTORY = Path(__file__).parent / "dashboards"


def files() -> dict[Path, str]:
    """Every dashboard's file and what belongs into it."""
    return {
        DIRECTORY / f"{board.uid}.json": json.dumps(dashboard(board, BOARDS), indent=1) + "\n"
        for board in BOARDS
    }


def stale() -> list[Path]:
    """Files that differ from what boards.py says, and files of no dashboard."""
    wanted = files()
    wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return wrong + [path for path in DIRECTORY.glob("*.json") if path not in wanted]


def main() -> int:
    """Writes, or compares with --check."""
    if "--check" in sys.argv[1:]:
        for path in stale():
            print(f"{path.name} differs: run python -m deploy.grafana.build")
        return 1 if stale() else 0
    DIRECTORY.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

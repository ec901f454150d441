"""A final database in a file, so that a history can be checked again when its database is gone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.history.final import Final, Move, SessionRow, Standing, TermRow


def save_final(final: Final, path: Path) -> None:
    """Writes it as JSON."""
    values: dict[str, Any] = {
        "now": final.now,
        "journaled": final.journaled,
        "bodies": [[*key, body] for key, body in final.bodies.items()],
        "standings": [
            [*key, asdict(standing)]
            for key, standings in final.standings.items()
            for standing in standings
        ],
        "failures": [[*key, fence, cause] for key, fence, cause in sorted(final.failures)],
        "moves": [asdict(move) for move in final.moves],
        "terms": [asdict(row) for row in final.terms],
        "sessions": [asdict(row) for row in final.sessions],
    }
    path.write_text(json.dumps(values), "utf-8")


def load_final(path: Path) -> Final:
    """Reads what `save_final` wrote. Raises ValueError for anything else."""
    try:
        values = json.loads(path.read_text("utf-8"))
        final = Final(
            now=values["now"],
            journaled=values["journaled"],
            bodies={(queue, job_id): body for queue, job_id, body in values["bodies"]},
            failures={
                ((queue, job_id), fence, cause)
                for queue, job_id, fence, cause in values["failures"]
            },
            moves=[Move(**(row | {"key": tuple(row["key"])})) for row in values["moves"]],
            terms=[TermRow(**row) for row in values["terms"]],
            sessions=[SessionRow(**row) for row in values["sessions"]],
        )
        for queue, job_id, standing in values["standings"]:
            final.standings.setdefault((queue, job_id), []).append(Standing(**standing))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no saved database: {error!r}") from error
    return final

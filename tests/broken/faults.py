"""What each broken variant changes, as text: `python -m tests.broken` writes the files anew.

The files are committed so that they can be read and laid over; written from the real statements, they
cannot be broken in a second way when those change. `(old, new)` replaces each occurrence; old must occur.
"""

from __future__ import annotations

import re
from pathlib import Path

from atlasqueue_server.store import statements

HERE = Path(__file__).parent
REAL = Path(statements.__file__).with_name("sql")

Replacement = tuple[str | re.Pattern[str], str]

TERM_CHECK = re.compile(
    r"\n +and exists \(\n +select from atlasqueue\.leader\n +where term = [^\n]*"
    r"(\n +and ticked_at [^\n]*)?(\n +for key share)?\n +\)"
)
FENCE_CHECK = (
    ("l.job_id = u.job_id and l.fence = u.fence", "l.job_id = u.job_id"),
    ("returning l.*, ", "returning l.*, held.fence as reported, "),
)
BACKOFF = re.compile(r"atlasqueue\.backoff\(\n +(.+),\n +(.+),\n +(.+),\n +(.+)\n +\) as backoff")
TO_SCHEDULED = re.compile(r"to_scheduled as \(.*?\n\),\n", re.DOTALL)

FAULTS: dict[str, dict[str, tuple[Replacement, ...]]] = {
    "fence": {
        "complete_jobs_if_fenced": (*FENCE_CHECK, ("array_agg(fence)", "array_agg(reported)")),
        "fail_jobs_if_fenced": (*FENCE_CHECK, ("select fence, ", "select reported, ")),
    },
    "fence_per_job": {
        "lease_jobs_if_ready": (
            ("greatest(nextval('atlasqueue.fence_seq'), t.fence + 1)", "t.fence + 1"),
        )
    },
    "grace": {
        "extend_by_outage_if_leader": (
            ("where not s.lost", "where false"),
            ("where l.deadline_at is not null", "where false"),
        )
    },
    "no_crash_cap": {
        "expire_leases_if_leader": (
            ("when t.crashes + 1 >= %(crash_cap)s then", "when false then"),
        )
    },
    "no_jitter": {
        "fail_jobs_if_fenced": (
            (BACKOFF, r"interval '1 ms' * least(\4, \2 * power(\3, \1 - 1)) as backoff"),
        )
    },
    "no_watermark": {
        "lease_jobs_if_ready": (("and r.seq > windows.seq_floor and", "and"),),
    },
    "term": {
        "expire_leases_if_leader": ((TERM_CHECK, ""),),
        "lose_sessions_if_leader": ((TERM_CHECK, ""),),
        "promote_jobs_if_leader": ((TERM_CHECK, ""),),
    },
    "vanish": {"expire_leases_if_leader": ((TO_SCHEDULED, ""),)},
}


def broken_text(variant: str, name: str) -> str:
    """The real statement with the variant's fault. Raises ValueError when there is nothing to replace."""
    text = (REAL / f"{name}.sql").read_text("utf-8")
    for old, new in FAULTS[variant][name]:
        changed = old.sub(new, text) if isinstance(old, re.Pattern) else text.replace(old, new)
        if changed == text:
            raise ValueError(f"{variant}: {name}.sql has changed, and nothing in it is {old!r}")
        text = changed
    return f"-- BROKEN on purpose ({variant}): see tests/broken/__init__.py\n{text}"


def write_all() -> None:
    """Writes tests/broken/<variant>/*.sql."""
    for variant, files in FAULTS.items():
        (HERE / variant).mkdir(exist_ok=True)
        for name in files:
            (HERE / variant / f"{name}.sql").write_text(broken_text(variant, name), "utf-8")

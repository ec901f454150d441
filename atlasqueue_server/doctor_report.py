"""What `atlasqueue-server doctor` prints, and its exit code. docs/operating/doctor.md is the manual of both."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from typing import Final

from atlasqueue_server.domain.doctor import Diagnosis, Facts, Finding, Level
from atlasqueue_server.version import VERSION

EXIT_UNABLE: Final = 3
WIDTH: Final = 110
NAMES: Final = {
    Level.OK: "ok",
    Level.NOTE: "note",
    Level.UNSEEN: "unseen",
    Level.WARNING: "WARNING",
    Level.PROBLEM: "PROBLEM",
}


def exit_code(diagnosis: Diagnosis) -> int:
    """0: nothing is wrong (notes and what could not be seen are no fault); 1: warnings; 2: problems."""
    return {Level.WARNING: 1, Level.PROBLEM: 2}.get(diagnosis.level, 0)


def to_text(diagnosis: Diagnosis) -> str:
    """For people: the worst first, then what is well in one line."""
    findings = sorted(
        (f for f in diagnosis.findings if f.level is not Level.OK), key=lambda f: -f.level
    )
    well = [f.check for f in diagnosis.findings if f.level is Level.OK]
    parts = [_heading(diagnosis.facts), *map(_paragraph, _grouped(findings))]
    if well:
        parts.append(_wrapped("ok       ", ", ".join(well)))
    parts.append(_summary(diagnosis))
    return "\n\n".join(parts)


def to_json(diagnosis: Diagnosis) -> str:
    """For programs: the same, every check at least once."""
    facts = diagnosis.facts
    document = {
        "doctor": VERSION,
        "postgresql": facts.database.version,
        "database": facts.database.name,
        "role": facts.database.role,
        "level": NAMES[diagnosis.level].lower(),
        "exit_code": exit_code(diagnosis),
        "findings": [
            {
                "check": finding.check,
                "level": NAMES[finding.level].lower(),
                "found": finding.found,
                "why": finding.why,
                "remedy": list(finding.remedy),
            }
            for finding in diagnosis.findings
        ],
    }
    return json.dumps(document, indent=2)


def _heading(facts: Facts) -> str:
    database = facts.database
    return (
        f"atlasqueue-server doctor {VERSION}: database {database.name} on PostgreSQL {database.version}, "
        f"as role {database.role}"
    )


def _grouped(findings: list[Finding]) -> list[Finding]:
    """What several checks say in the same words is said once."""
    groups: dict[Finding, list[str]] = {}
    for finding in findings:
        groups.setdefault(replace(finding, check=""), []).append(finding.check)
    return [replace(finding, check=", ".join(names)) for finding, names in groups.items()]


def _paragraph(finding: Finding) -> str:
    lines = [_wrapped(f"{NAMES[finding.level]:9}", f"{finding.check}: {finding.found}")]
    if finding.why:
        lines.append(_wrapped("    why  ", finding.why))
    # Not wrapped: they are there to be copied.
    lines += [f"    do   {step}" for step in finding.remedy]
    return "\n".join(lines)


def _wrapped(label: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(diagnosis: Diagnosis) -> str:
    counts = dict.fromkeys(Level, 0)
    for finding in diagnosis.findings:
        counts[finding.level] += 1
    words = [
        f"{counts[level]} {word}{'s' * (counts[level] != 1)}"
        for level, word in (
            (Level.PROBLEM, "problem"),
            (Level.WARNING, "warning"),
            (Level.NOTE, "note"),
        )
        if counts[level]
    ]
    if counts[Level.UNSEEN]:
        words.append(f"{counts[Level.UNSEEN]} could not be seen")
    return ", ".join(words) if words else "Nothing is wrong."

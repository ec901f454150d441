"""doctor: looks at the database and the cluster, and says in plain words what is wrong and what to do.

    store/examine.py     facts, read by SQL            the only part that touches the database
    this package         checks: pure functions of the facts
    doctor_report.py     text and JSON

A new check is a function with `@check` in one of the modules below, and its row in docs/operating/doctor.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from atlasqueue_server.domain.doctor import cluster, database, schema, vacuum
from atlasqueue_server.domain.doctor.findings import (
    CHECKS,
    Finding,
    Level,
    unseen_of,
)
from atlasqueue_server.store.examine import Facts, Schema, examine

__all__ = ["Diagnosis", "Facts", "Finding", "Level", "diagnose", "look"]
# Imported for the checks that they register.
_MODULES = (database, vacuum, schema, cluster)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, at least one for each check, in the order of the checks."""

    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst."""
        return max(finding.level for finding in self.findings)


def diagnose(facts: Facts) -> Diagnosis:
    """What the checks say of the facts."""
    findings: list[Finding] = []
    for registered in CHECKS:
        if why := unseen_of(registered, facts):
            found = [_unseen(facts, why)]
        else:
            found = list(registered.run(facts)) or [Finding(Level.OK, "")]
        findings += [replace(finding, check=registered.name) for finding in found]
    return Diagnosis(facts, tuple(findings))


def _unseen(facts: Facts, why: str) -> Finding:
    if isinstance(facts.schema, Schema) and not facts.schema.version:
        return Finding(Level.UNSEEN, "there is no schema of AtlasQueue to look at")
    role = facts.database.role
    grants = (
        f'grant usage on schema atlasqueue to "{role}";',
        f'grant select on all tables in schema atlasqueue to "{role}";',
    )
    remedy = grants if "permission denied" in why else ()
    return Finding(Level.UNSEEN, f"could not be seen by role {role}: {why}", remedy=remedy)


async def look(database_url: str) -> Diagnosis:
    """Reads the facts and diagnoses. Raises DatabaseUnavailable, UnfitDatabase."""
    return diagnose(await examine(database_url, list(database.SETTINGS)))

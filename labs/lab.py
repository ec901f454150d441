"""What a lab is, and the registry that they add themselves to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.settings import Settings

if TYPE_CHECKING:
    from labs.stage import Stage


@dataclass(frozen=True)
class Verdict:
    """What one run has shown. `caught`: the fault was seen; `says`: in a sentence; `evidence`: lines."""

    caught: bool
    says: str
    evidence: tuple[str, ...] = ()


Play = Callable[["Stage"], Awaitable[Verdict | None]]


@dataclass(frozen=True)
class Lab:
    """One lab.

    question: what the reader should have an opinion on before pressing a key.
    missing: what the naive run lacks.
    variant: the broken statements of the naive run (tests/broken), or None when it is the client that is naive.
    many_jobs: too many for each of their moves to be told.
    play: breaks things; returns the verdict, or None to leave it to the history checker.
    """

    name: str
    title: str
    question: str
    missing: str
    chapter: str
    variant: str | None
    play: Play
    many_jobs: bool = False
    settings: Settings = field(default_factory=Settings)


REGISTRY: dict[str, Lab] = {}


def lab(name: str, title: str, **fields: Any) -> Callable[[Play], Play]:
    """Registers the function below; fields of Lab, and of the world's Settings."""
    of_lab = {key: fields.pop(key) for key in ("question", "missing", "chapter", "variant")}
    many_jobs = fields.pop("many_jobs", False)

    def register(play: Play) -> Play:
        settings = Settings(**fields)
        REGISTRY[name] = Lab(
            name, title, play=play, many_jobs=many_jobs, settings=settings, **of_lab
        )
        return play

    return register

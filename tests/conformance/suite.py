"""Plays the cases with one executor: most of them side by side, then those that disturb others one by one.

A case that failed is played once more, alone. Sessions, drains and reports have bounds in seconds, which a machine
that is starved for a moment breaks, whatever the SDK does; an SDK that is wrong is wrong again.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests import golang
from tests.conformance.cases import Case
from tests.conformance.executor import Executor, ExecutorDied
from tests.conformance.player import STEP_S, Failed, Player
from tests.conformance.stage import ROOT, Stage

AT_ONCE = 4
# What a broken executor leaves out is waited for in vain.
BROKEN_STEP_S = 20.0
GO_EXECUTOR = "conformance"


@dataclass(frozen=True)
class Result:
    """How a case went: `why` is empty when it passed; `first` is why it had failed before that."""

    case: Case
    why: str
    seconds: float
    first: str = ""

    @property
    def passed(self) -> bool:
        """Whether the SDK does what the case expects."""
        return not self.why


def command_of(executor: str) -> list[str]:
    """The command behind a name. Raises golang.Missing, or what building it raises."""
    if executor == "python":
        return [sys.executable, "-m", "tests.conformance.executors.python"]
    if executor == "go":
        return [str(golang.build(GO_EXECUTOR))]
    if executor.startswith("broken:"):
        fault = executor.removeprefix("broken:")
        return [sys.executable, "-m", "tests.conformance.executors.broken", fault]
    return executor.split()


def can_be_run(executor: str) -> bool:
    """Whether it is a name that is known here, or begins with a program that there is."""
    program = (executor.split() or [""])[0]
    known = executor in ("python", "go") or executor.startswith("broken:")
    return known or shutil.which(program) is not None


class Suite:
    """Cases on a stage, with an executor that is started again when a case has ended it."""

    _runs = itertools.count(1)

    def __init__(
        self,
        stage: Stage,
        command: Sequence[str],
        name: str,
        tell: Callable[[Result], None] = lambda _: None,
        *,
        step_s: float = STEP_S,
        tries: int = 2,
    ) -> None:
        self._stage = stage
        self._command = command
        self._log = stage.directory / f"{name.replace(':', '-').replace('/', '_')}.log"
        self._tell = tell
        self._step_s = step_s
        self._tries = tries
        self._run = str(next(Suite._runs))
        self._executor: Executor | None = None
        self._starting = asyncio.Lock()

    async def play(self, cases: Sequence[Case]) -> list[Result]:
        """All of them; results in the order of the cases."""
        results: dict[str, Result] = {}
        places = asyncio.Semaphore(AT_ONCE)

        async def play(case: Case) -> None:
            async with places:
                results[case.name] = await self._play(case)
                self._tell(results[case.name])

        try:
            async with asyncio.TaskGroup() as group:
                for case in cases:
                    if not case.alone:
                        group.create_task(play(case))
            for case in cases:
                if case.alone:
                    await play(case)
            for failed in [result for result in results.values() if not result.passed]:
                if self._tries > 1:
                    again = await self._play(failed.case, ".again")
                    results[failed.case.name] = replace(again, first=failed.why)
                    self._tell(results[failed.case.name])
        finally:
            if self._executor is not None:
                await self._executor.end()
        return [results[case.name] for case in cases]

    async def _started(self) -> Executor:
        async with self._starting:
            if self._executor is not None and not self._executor.alive:
                await self._executor.end()
                self._executor = None
            if self._executor is None:
                address = self._stage.link_address
                self._executor = await Executor.start(self._command, address, self._log, ROOT)
            return self._executor

    async def _play(self, case: Case, more: str = "") -> Result:
        began = time.monotonic()
        why = ""
        try:
            executor = await self._started()
            await Player(case, executor, self._stage, self._run + more, self._step_s).play()
        except (Failed, ExecutorDied) as failure:
            why = str(failure)
        return Result(case, why, time.monotonic() - began)


async def not_catching(stage: Stage, fault: str, cases: Sequence[Case]) -> list[str]:
    """The cases that name a fault of executors/broken.py and pass with it all the same."""
    name = f"broken:{fault}"
    meant = [case for case in cases if fault in case.catches]
    results = await Suite(stage, command_of(name), name, step_s=BROKEN_STEP_S, tries=1).play(meant)
    return [result.case.name for result in results if result.passed]

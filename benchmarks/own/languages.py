"""The work phase by a worker in Python and by one in Go, in the same rounds on the same server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.harness.interleave import Measure
from benchmarks.harness.runner import ROOT, Runner, RunnerError
from benchmarks.own.context import Context, Live, Metrics
from benchmarks.own.throughput import work_once, work_with

PROGRAM = ROOT / ".tools" / "go" / "benchworker"


def work(context: Context) -> dict[str, Measure]:
    """One process each, with the run's slots. Raises RunnerError when Go's cannot be built."""
    program = build()
    jobs = context.sizes.jobs

    def python() -> dict[str, Metrics]:
        return {"languages": work_once(context, jobs, context.slots)}

    def go() -> dict[str, Metrics]:
        def worker(live: Live) -> Runner:
            command = [str(program), "--jobs", str(jobs), "--slots", str(context.slots)]
            environment = {"ATLASQUEUE_ADDRESS": live.server.address}
            return Runner(command, context.log, environment=environment)

        return {"languages": work_with(context, jobs, worker)}

    return {"Python": python, "Go": go}


def build() -> Path:
    """The worker in Go; Go's own cache makes a repeat cheap. Raises RunnerError."""
    if shutil.which("go") is None:
        raise RunnerError("Go is not installed")
    done = subprocess.run(
        ["go", "build", "-buildvcs=false", "-o", str(PROGRAM), "./internal/cmd/benchworker"],
        cwd=ROOT / "clients" / "go",
        env=os.environ | {"GOTOOLCHAIN": "auto"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RunnerError(f"go build failed: {done.stderr.strip()[-300:]}")
    return PROGRAM

"""Pages whose commands are run: ```sh blocks in order, in one bash, with the ```text below each as what it must print."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools" / "bin"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MARK = "@@ end of block"
ANYTHING = "…"


@dataclass(frozen=True)
class Step:
    """A block of commands and the lines that it must print, in order among others."""

    commands: str
    expected: list[str]


def steps_of(page: Path, replace: Mapping[str, str]) -> list[Step]:
    """The steps of a page, with addresses replaced."""
    text = page.read_text()
    for old, new in replace.items():
        assert old in text, f"{page.name} no longer names {old}"
        text = text.replace(old, new)
    steps: list[Step] = []
    for language, body in BLOCK.findall(text):
        if language == "sh":
            steps.append(Step(body, []))
        else:
            steps[-1].expected.extend(line.strip() for line in body.splitlines() if line.strip())
    return steps


def find_tool(name: str) -> str | None:
    """Where a tool is, in .tools/bin or on the PATH."""
    return shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")


async def run(steps: list[Step], directory: Path) -> None:
    """Runs the steps in one bash; fails for an exit code or a missing line, and says which."""
    script = "set -euo pipefail\n" + "".join(
        f"{step.commands}\necho; echo '{MARK}'\n" for step in steps
    )
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        cwd=directory,
        env=os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(100):
            raw, _ = await process.communicate()
    finally:
        # What a page leaves running in the background ends with it.
        if process.returncode is None or process.returncode:
            _kill_group(process.pid)
    outputs = raw.decode().split(f"{MARK}\n")
    for step, output in zip(steps, outputs, strict=False):
        _compare(step, output)
    assert process.returncode == 0, f"exit code {process.returncode} after:\n{outputs[-1]}"
    assert len(outputs) == len(steps) + 1


def _kill_group(process_id: int) -> None:
    try:
        os.killpg(process_id, 9)
    except ProcessLookupError:
        return


def _compare(step: Step, output: str) -> None:
    lines = iter(output.splitlines())
    for expected in step.expected:
        # Whether a comma follows depends on what the page leaves out.
        parts = [re.escape(part) for part in expected.rstrip(",").split(ANYTHING)]
        pattern = re.compile(".*".join(parts) + ",?")
        assert any(pattern.fullmatch(line.strip()) for line in lines), (
            f"no line {expected!r} (in this order)\n--- commands\n{step.commands}\n--- printed\n{output}"
        )

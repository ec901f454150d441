"""Writes the blocking twin of each async module of the SDK: async is written once, by hand.

python scripts/async_to_sync.py            write
python scripts/async_to_sync.py --check    fail when a file differs
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clients" / "python" / "atlasqueue"
MODULES = {
    "async_calls.py": "calls.py",
    "async_operators.py": "operators.py",
    "async_client.py": "client.py",
}
HEADER = "# Generated from {source} by scripts/async_to_sync.py (`make generate`). Do not edit.\n"
REPLACEMENTS = [
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait asyncio\.sleep\b", "time.sleep"),
    (r"\bawait ", ""),
    (r"\bimport asyncio\n", ""),
    (r"\bAsync(Client|Calls|Stubs|Queues|DeadLetters|Iterator)\b", r"\1"),
    (r"\basync_(calls|operators|client)\b", r"\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\bgrpc\.aio\.Channel\b", "grpc.Channel"),
    (r"\bopen_aio_channel\b", "open_channel"),
]


def translate(source: Path) -> str:
    """The blocking twin of a module, formatted."""
    text = source.read_text()
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    text = HEADER.format(source=source.name) + text
    for command in (["check", "--fix", "--quiet", "--select", "I"], ["format", "--quiet"]):
        ruff = [
            str(Path(sys.executable).parent / "ruff"),
            *command,
            "--stdin-filename",
            source,
            "-",
        ]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main() -> int:
    """Writes or checks the twins."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when a file differs")
    check = parser.parse_args().check
    stale = []
    for source, target in MODULES.items():
        text = translate(PACKAGE / source)
        if check and (PACKAGE / target).read_text() != text:
            stale.append(target)
        elif not check:
            (PACKAGE / target).write_text(text)
    for target in stale:
        print(f"differs from its async twin: clients/python/atlasqueue/{target}")
    print("run `make generate`" if stale else "sync modules are up to date")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

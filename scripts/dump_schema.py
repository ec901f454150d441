"""Writes migrations/schema.sql: the sum of all migrations, as pg_dump shows it.

python scripts/dump_schema.py            write
python scripts/dump_schema.py --check    fail when the file differs
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from atlasqueue_server.embedded import EmbeddedPostgres, find_binaries
from atlasqueue_server.store.migrations import migrate

SCHEMA = Path(__file__).resolve().parents[1] / "migrations" / "schema.sql"
HEADER = """\
-- The sum of migrations/*.sql, for readers. Written by scripts/dump_schema.py (`make generate`);
-- do not edit: `make verify` and a test prove that it is what the migrations make.
"""
# Lines that change from one run or one minor version of pg_dump to the next.
NOISE = ("-- Dumped", "\\restrict", "\\unrestrict", "SET ", "SELECT pg_catalog", "--")


def dump(database_url: str) -> str:
    """The schema of a migrated database, without noise."""
    pg_dump = find_binaries().directory / "pg_dump"
    command = [pg_dump, "--schema-only", "--schema=atlasqueue", "--no-owner", "--no-privileges"]
    done = subprocess.run([*command, database_url], check=True, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith(NOISE)]
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return HEADER + "\n" + text.strip() + "\n"


def main() -> int:
    """Writes or checks schema.sql."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when the file differs")
    check = parser.parse_args().check
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedPostgres(
            Path(directory) / "data", settings={"fsync": "off"}, temporary=True
        ) as server,
    ):
        asyncio.run(migrate(server.url))
        text = dump(server.url)
    if not check:
        SCHEMA.write_text(text)
        return 0
    if SCHEMA.read_text() == text:
        print("migrations/schema.sql is up to date")
        return 0
    print("migrations/schema.sql is not the sum of the migrations: run `make generate`")
    return 1


if __name__ == "__main__":
    sys.exit(main())

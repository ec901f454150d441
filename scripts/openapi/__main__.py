"""Writes atlasqueue_server/http/openapi.json from the contract.

python -m scripts.openapi            write
python -m scripts.openapi --check    fail when the file differs
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from scripts.openapi import errors
from scripts.openapi.contract import ROOT, Contract, load
from scripts.openapi.operations import paths
from scripts.openapi.schemas import Schemas

DOCUMENT = ROOT / "atlasqueue_server" / "http" / "openapi.json"
INTRODUCTION = """\
The REST side of AtlasQueue: the same handlers, checks and errors as over gRPC. What workers do (lease, heartbeat, report) is gRPC only.

- A body is JSON with `Content-Type: application/json`. Unknown fields are refused.
- `payload`, `result` and `checkpoint` are bytes: base64 in JSON. Numbers of 64 bits are strings. Durations are strings of seconds \
such as "1.5s", times are RFC 3339.
- Texts below name fields as the contract does (`run_at`); in JSON they are `runAt`, and both are taken.
- Errors are a `Status`, whose first detail has the reason.
"""


def document(contract: Contract) -> dict[str, Any]:
    """The OpenAPI document."""
    schemas = Schemas(contract)
    items = paths(contract, schemas)
    used = {operation["tags"][0] for item in items.values() for operation in item.values()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AtlasQueue",
            "version": "v1",
            "summary": "A distributed job queue for any language on one PostgreSQL.",
            "description": INTRODUCTION.strip(),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": service.name, "description": contract.comment(service.full_name).prose}
            for service in contract.services
            if service.name in used
        ],
        "paths": items,
        "components": {"schemas": schemas.components() | errors.components(contract)},
    }


def main() -> int:
    """Writes or checks the document; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when the file differs")
    check = parser.parse_args().check
    text = json.dumps(document(load()), ensure_ascii=False, indent=2) + "\n"
    if not check:
        DOCUMENT.write_text(text, "utf-8")
        return 0
    if DOCUMENT.exists() and DOCUMENT.read_text("utf-8") == text:
        print("openapi.json is up to date")
        return 0
    print("atlasqueue_server/http/openapi.json is not what proto/ says: run `make generate`")
    return 1


if __name__ == "__main__":
    sys.exit(main())

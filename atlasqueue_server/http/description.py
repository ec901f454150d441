"""/openapi.json, which `make generate` writes from the contract, and /docs, which is rendered from it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from atlasqueue_server.http.answers import json_response
from atlasqueue_server.http.reference.page import content_security_policy, render

DOCUMENT: Final = Path(__file__).with_name("openapi.json")


async def openapi(_request: Request) -> Response:
    """The OpenAPI document."""
    return json_response(_document())


async def docs(_request: Request) -> Response:
    """The document for people."""
    headers = {"content-security-policy": content_security_policy()}
    return HTMLResponse(_page(), headers=headers)


@cache
def _document() -> bytes:
    return DOCUMENT.read_bytes().rstrip()


@cache
def _page() -> str:
    return render(json.loads(_document()))

"""The HTTP application: REST with its /openapi.json and /docs, /metrics, /healthz, /readyz.

/healthz answers while the process lives: restart it when that fails. /readyz answers 200 only while
calls make sense here: send no traffic when that fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlasqueue_server.http.answers import dump, json_response, wrong_method
from atlasqueue_server.http.description import docs, openapi
from atlasqueue_server.http.transcode import Transcoder
from atlasqueue_server.metrics import Metrics
from atlasqueue_server.model import limits
from atlasqueue_server.rpc.binding import Rpc

READINESS_TIMEOUT_S: Final = 2.0

# Check → "ok" or what is wrong, as in {"database": "does not answer", "draining": "ok"}.
Readiness = Callable[[], Awaitable[Mapping[str, str]]]


def build_app(
    rpcs: Sequence[Rpc],
    metrics: Metrics,
    readiness: Readiness,
    *,
    write_timeout_s: float = limits.WRITE_TIMEOUT_S,
) -> Starlette:
    """The application. Ready when every check that `readiness` returns is "ok".

    A stream whose client does not read for `write_timeout_s` is dropped.
    """

    async def exposition(request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        for refresh in metrics.before_scrape:
            await refresh()
        # Thousands of series take a while to write; calls go on meanwhile.
        body = await asyncio.to_thread(encoder, metrics.registry)
        return Response(body, headers={"content-type": content_type})

    async def alive(_request: Request) -> Response:
        return json_response(dump({"status": "ok"}))

    async def ready(_request: Request) -> Response:
        checks = await _checks(readiness)
        good = all(state == "ok" for state in checks.values())
        tree = {"status": "ok" if good else "not ready", "checks": dict(checks)}
        return json_response(dump(tree), 200 if good else 503)

    app = Starlette(
        routes=[
            Route("/metrics", exposition),
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/openapi.json", openapi),
            Route("/docs", docs),
        ],
        exception_handlers={405: _wrong_method},
    )
    # Not a Mount, whose pattern passes over paths with a newline in them.
    app.router.default = Transcoder(rpcs, write_timeout_s)
    return app


async def _wrong_method(request: Request, error: Exception) -> Response:
    allowed = (cast(HTTPException, error).headers or {}).get("Allow", "GET")
    return wrong_method(request.method, allowed.split(", ")).response


async def _checks(readiness: Readiness) -> Mapping[str, str]:
    try:
        async with asyncio.timeout(READINESS_TIMEOUT_S):
            return await readiness()
    except TimeoutError:
        return {"database": f"does not answer within {READINESS_TIMEOUT_S:g} s"}
    except Exception as error:
        # Its text may hold addresses or credentials.
        return {"database": f"does not answer ({type(error).__name__})"}

"""What is called for a job: its handler alone, or with middleware around it, or a process.

A kind with neither is called as it is and pays for nothing here.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, cast

from atlasqueue_worker.app import App, Dress, Handler, Middleware, Next, Registration
from atlasqueue_worker.isolated import run_isolated
from atlasqueue_worker.job import JobContext, LeaseState
from atlasqueue_worker.outcomes import Cancel, no_exit


def prepared(app: App, threads: Executor, dresses: Sequence[Dress]) -> dict[str, Registration]:
    """The registrations with what stands around their handlers: middleware, then the dresses, outermost last.

    Raises ValueError when a subprocess could not find the app.
    """
    return {
        kind: _dressed(prepare(registration, app, threads), dresses)
        for kind, registration in app.registrations.items()
    }


def _dressed(registration: Registration, dresses: Sequence[Dress]) -> Registration:
    for dress in dresses:
        handler = dress(registration.handler, registration.is_async)
        registration = replace(registration, handler=handler)
    return registration


def prepare(registration: Registration, app: App, threads: Executor) -> Registration:
    """One registration with what stands around its handler. Raises ValueError as `prepared`."""
    if registration.subprocess:
        if app.name is None:
            raise ValueError(
                f"kind {registration.kind!r} runs in a subprocess, which must find the app: start it with "
                "`atlasqueue-worker run MODULE:APP`, or say App('my_package.jobs:app')"
            )
        innermost: Next = partial(run_isolated, app.name, registration)
    elif not app.middlewares:
        return registration
    elif registration.is_async:
        innermost = cast(Next, registration.handler)
    else:
        innermost = partial(in_thread, threads, registration.handler)
    return replace(registration, handler=around(app.middlewares, innermost), is_async=True)


def around(middlewares: Sequence[Middleware], innermost: Next) -> Next:
    """The middlewares around a handler, the first one outermost."""
    run = innermost
    for middleware in reversed(middlewares):
        run = partial(_through, middleware, run)
    return run


def _through(middleware: Middleware, run: Next, job: JobContext) -> Awaitable[Any]:
    return middleware(job, run)


async def in_thread(threads: Executor, handler: Handler, job: JobContext) -> Any:
    """A plain handler in a thread. A cancel does not end it: it looks for itself, as ever."""

    def call() -> tuple[Any, BaseException | None]:
        # A future of asyncio cannot carry every exception: StopIteration would be lost.
        try:
            if job.lease_state is LeaseState.LOST:
                # While it waited for its thread.
                raise Cancel("the lease was lost before the handler began")
            return handler(job), None
        except KeyboardInterrupt as error:
            # In the event loop it would be taken for the worker's.
            return None, no_exit(error)
        except BaseException as error:
            return None, error

    context = contextvars.copy_context()
    future = asyncio.get_running_loop().run_in_executor(threads, context.run, call)
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not job.cancelled or task is None:
                raise
            task.uncancel()
    value, error = future.result()
    if error is not None:
        raise error
    return value

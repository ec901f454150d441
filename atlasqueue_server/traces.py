"""Traces of the server: RPCs by opentelemetry-instrumentation-grpc (rpc/spans.py), commits and statements by its own spans.

    producer ─▶ JobService/Enqueue ─▶ commit enqueue ─▶ enqueue_jobs_if_new
                JobService/Enqueue ──────link──▲   calls that share a commit: one is its parent

Off unless the OTEL_* variables ask for it; then nothing of OpenTelemetry is imported, and each statement
pays one comparison. On, a statement outside of all traces pays a look for a context: there are several a
report, so they cost as much as the spans do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from atlasqueue.tracing import provider_from_environment

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_tracer: Tracer | None = None
_provider: Any = None
# What OpenTelemetry keeps of the call that this runs in; empty outside of traces.
_context: Callable[[], dict[str, object]] = dict
_nothing: Final = nullcontext()


def configure() -> bool:
    """Begins to trace when the OTEL_* variables ask for it; whether they do. Raises ImportError."""
    global _tracer, _provider, _context
    _provider = provider_from_environment("atlasqueue-server")
    if _provider is None:
        return False
    from opentelemetry.context import get_current

    _context = get_current
    _tracer = _provider.get_tracer("atlasqueue_server")
    return True


def shutdown() -> None:
    """Exports what waits, and ends. Blocks."""
    global _tracer, _provider
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


def provider() -> Any:
    """The tracer provider; None: nothing is traced."""
    return _provider


def recording() -> Span | None:
    """The span that this runs in, if there is one that will be exported."""
    if _tracer is None or not _context():
        return None
    from opentelemetry.trace import get_current_span

    span = get_current_span()
    return span if span.is_recording() else None


def current_trace_id() -> str | None:
    """The trace that this runs in, for logs."""
    if (span := recording()) is None:
        return None
    return f"{span.get_span_context().trace_id:032x}"


def statements(names: Sequence[str]) -> AbstractContextManager[Any]:
    """A span around statements of one transaction, by their names; nothing outside of a trace."""
    if _tracer is None or recording() is None:
        return _nothing
    return _statements(_tracer, names)


@contextmanager
def _statements(tracer: Tracer, names: Sequence[str]) -> Iterator[None]:
    from opentelemetry.trace import SpanKind

    attributes: dict[str, Any] = {"db.system.name": "postgresql", "db.operation.name": names[0]}
    if len(names) > 1:
        attributes |= {"db.operation.batch.size": len(names), "db.query.summary": " ".join(names)}
    with _span(tracer, names[0], kind=SpanKind.CLIENT, attributes=attributes):
        yield


@contextmanager
def _span(tracer: Tracer, name: str, **how: Any) -> Iterator[None]:
    """A span that says of an exception only its class: PostgreSQL's messages may show a row."""
    from opentelemetry.trace import StatusCode

    with tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False, **how
    ) as span:
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def commit(verb: str, rows: int, spans: Sequence[Span]) -> AbstractContextManager[Any]:
    """A span around a commit that the calls of `spans` share: child of the first, linked to the others."""
    if _tracer is None or not spans:
        return _nothing
    from opentelemetry.trace import Link, set_span_in_context

    return _span(
        _tracer,
        f"commit {verb}",
        context=set_span_in_context(spans[0]),
        links=[Link(span.get_span_context()) for span in spans[1:]],
        attributes={"atlasqueue.rows": rows, "atlasqueue.calls": len(spans)},
    )

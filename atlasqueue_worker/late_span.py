"""A span that is made when somebody looks at it, or else after its run, together with others.

Of a hundred jobs one is traced, and by then what runs for a span is in no cache of the processor any more:
it costs three to five times what it costs right after another span. Most handlers never look at the span
that they run in. Its start and end are noted, and the span itself is made in a row with those of other runs:

    run ──── run ── run ──────▶ all three are made and exported     nobody looked
    run ──▶ made at once ──▶ ended with the run                     an own span, an enqueue, an attribute
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any

from opentelemetry import trace

from atlasqueue_worker.job import JobContext

# Handlers may look from any thread.
_making = threading.Lock()


class LateSpan(trace.Span):
    """Stands for the span of a run. `made` and all that programs do with a span make it, if it is not yet.

    Args:
        job: whose run it is.
        make: starts its span, as of a time in nanoseconds since 1970.
    """

    def __init__(self, job: JobContext, make: Callable[[JobContext, int], trace.Span]) -> None:
        self._job = job
        self._make = make
        self._began = time_ns()
        self._made: trace.Span | None = None
        self.ended = 0
        self.error: str | None = None

    @property
    def is_made(self) -> bool:
        """Whether somebody has looked."""
        return self._made is not None

    def made(self) -> trace.Span:
        """The span itself."""
        with _making:
            if self._made is None:
                self._made = self._make(self._job, self._began)
            return self._made

    def end(self, end_time: int | None = None) -> None:
        """As trace.Span."""
        self.made().end(end_time)

    def get_span_context(self) -> trace.SpanContext:
        """As trace.Span."""
        return self.made().get_span_context()

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """As trace.Span."""
        self.made().set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        """As trace.Span."""
        self.made().set_attribute(key, value)

    def add_event(self, *what: Any, **more: Any) -> None:
        """As trace.Span."""
        self.made().add_event(*what, **more)

    def add_link(self, *what: Any, **more: Any) -> None:
        """As trace.Span."""
        self.made().add_link(*what, **more)

    def update_name(self, name: str) -> None:
        """As trace.Span."""
        self.made().update_name(name)

    def is_recording(self) -> bool:
        """As trace.Span."""
        return self.made().is_recording()

    def set_status(self, *what: Any, **more: Any) -> None:
        """As trace.Span."""
        self.made().set_status(*what, **more)

    def record_exception(self, *what: Any, **more: Any) -> None:
        """As trace.Span."""
        self.made().record_exception(*what, **more)

    def __getattr__(self, name: str) -> Any:
        """What the SDK's spans have beside that: name, attributes, start_time, …"""
        return getattr(self.made(), name)

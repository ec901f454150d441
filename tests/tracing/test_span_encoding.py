"""Spans that are encoded in their place are the message that the library makes of them, to the byte."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from atlasqueue import span_encoding
from atlasqueue.span_encoding import encode


class Number(IntEnum):
    """An integer, and no int."""

    ONE = 1


class Word(StrEnum):
    """A string, and no str."""

    ONE = "one"


def resource(name: str) -> Resource:
    """Equal to others of that name, but not the same."""
    return Resource({"service.name": name}, "https://example.org/schema")


def scope(version: str | None, **more: Any) -> InstrumentationScope:
    """Equal to others of that version, but not the same."""
    return InstrumentationScope("of tests", version, **more)


RESOURCES = [resource("shop"), resource("mail"), resource("shop"), Resource({})]
SCOPES = [
    None,
    scope(None),
    scope("1", schema_url="https://example.org/schema"),
    scope("1", schema_url="https://example.org/schema"),
    scope("1", attributes={"a": 1}),
]


Part = tuple[str, st.SearchStrategy[Any]]
SIMPLE = st.one_of(
    st.text(max_size=5),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, -(2**63), 2**63 - 1]),
    st.floats(),
)
UNUSUAL = st.one_of(
    # No field takes these.
    st.sampled_from(["\ud800", 2**63, -(2**70), object()]),
    st.sampled_from([None, b"bytes", *Number, *Word]),
    st.lists(SIMPLE, max_size=2),
    st.tuples(SIMPLE),
    st.dictionaries(st.text(max_size=3), SIMPLE, max_size=2),
)
KEYS = st.text(max_size=3)
ATTRIBUTES = st.dictionaries(KEYS, SIMPLE, max_size=3)
ODD_ATTRIBUTES = st.dictionaries(KEYS, SIMPLE | UNUSUAL, min_size=1, max_size=3)
TWO = st.fixed_dictionaries({"a": SIMPLE, "b": SIMPLE})
ONE_KEPT, NO_ATTRIBUTES = (st.builds(BoundedAttributes, st.just(kept), TWO) for kept in (1, 0))
NONE_KEPT = st.builds(BoundedList.from_seq, st.just(0), st.just([1]))


def contexts(states: st.SearchStrategy[TraceState | None]) -> st.SearchStrategy[SpanContext]:
    """Of a span, its parent, or what it is linked to."""
    return st.builds(
        SpanContext,
        st.integers(0, 2**128 - 1),
        st.integers(0, 2**64 - 1),
        is_remote=st.booleans(),
        trace_flags=st.builds(TraceFlags, st.integers(0, 3)),
        trace_state=states,
    )


STATES = st.sampled_from([TraceState([("shop", "1")]), TraceState([("shop", "1"), ("mail", "2")])])
CONTEXTS = contexts(st.none() | st.just(TraceState()))
TIMES = st.integers(0, 2**64 - 1)
ODD_TIMES = st.none() | st.just(2**64)
FAILED = st.builds(Status, st.just(StatusCode.ERROR), st.none() | st.text(max_size=5))
PARTS: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text(max_size=5),
    "context": CONTEXTS,
    "parent": st.none() | CONTEXTS | contexts(STATES),
    "resource": st.sampled_from(RESOURCES),
    "attributes": st.none() | ATTRIBUTES | st.builds(BoundedAttributes, st.just(9), TWO),
    "links": st.lists(st.builds(Link, CONTEXTS | contexts(STATES)), max_size=2),
    "kind": st.sampled_from(SpanKind),
    "status": st.sampled_from([Status(StatusCode.UNSET), Status(StatusCode.OK)]) | FAILED,
    "start_time": TIMES,
    "end_time": TIMES,
    "instrumentation_scope": st.sampled_from(SCOPES),
}
# One at a time: a span with another that is unusual is not written in its place, and shows nothing.
UNUSUAL_PARTS: list[Part] = [
    ("context", contexts(STATES)),
    ("attributes", ODD_ATTRIBUTES),
    ("attributes", ONE_KEPT),
    ("events", st.lists(st.builds(Event, KEYS, ODD_ATTRIBUTES, TIMES), min_size=1, max_size=2)),
    ("events", NONE_KEPT),
    ("links", st.lists(st.builds(Link, CONTEXTS, ODD_ATTRIBUTES), min_size=1, max_size=2)),
    ("links", st.lists(st.builds(Link, CONTEXTS, NO_ATTRIBUTES), min_size=1, max_size=2)),
    ("links", NONE_KEPT),
    ("start_time", ODD_TIMES),
    ("end_time", ODD_TIMES),
]


def with_one(part: Part | None) -> st.SearchStrategy[ReadableSpan]:
    """Spans of which this part is unusual."""
    return st.builds(ReadableSpan, **(PARTS | dict([part] if part else [])))


def usual(
    number: int = 1, of: Resource = RESOURCES[0], by: InstrumentationScope | None = SCOPES[1]
) -> ReadableSpan:
    """A span that is written in its place."""
    context = SpanContext(1, number, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan(
        "process media",
        context,
        parent=SpanContext(1, 2, is_remote=True),
        resource=of,
        attributes={"text": "ü", "yes": True, "count": 1, "share": 0.5},
        links=[Link(context)],
        kind=SpanKind.CONSUMER,
        status=Status(StatusCode.ERROR, "ValueError"),
        start_time=1,
        end_time=2,
        instrumentation_scope=by,
    )


@pytest.mark.parametrize("part", [None, *UNUSUAL_PARTS], ids=lambda part: part and part[0])
@given(data=st.data(), after_usual=st.sampled_from([True, True, True, False]))
@settings(max_examples=20, deadline=None)
def test_it_is_the_message_of_the_library(
    part: Part | None, data: st.DataObject, after_usual: bool
) -> None:
    spans = data.draw(st.lists(with_one(part) | with_one(None), min_size=1, max_size=6))
    if after_usual:
        # What is wrong with the first of a scope is seen there, and the library encodes them all.
        spans = [usual(of=s.resource, by=s.instrumentation_scope) for s in spans] + spans
    try:
        theirs = encode_spans(spans)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            encode(spans)
    else:
        # As bytes: a message with a NaN is equal to none.
        assert encode(spans).SerializeToString() == theirs.SerializeToString()


class Library:
    """The library's encoder, or another version of it: keeps which spans it was given."""

    def __init__(self, flags: int = 0) -> None:
        self._flags = flags
        self.given: list[list[ReadableSpan]] = []

    def __call__(self, spans: Sequence[ReadableSpan]) -> Any:
        """As encode_spans."""
        self.given.append(list(spans))
        request = encode_spans(spans)
        for span in (s for r in request.resource_spans for o in r.scope_spans for s in o.spans):
            span.flags |= self._flags
        return request


def test_of_usual_spans_the_library_encodes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal they would be as well if it encoded all of them."""
    library = Library()
    monkeypatch.setattr(span_encoding, "encode_spans", library)
    spans = [usual(number) for number in range(5)]
    assert encode(spans) == encode_spans(spans)
    assert library.given == [spans[:1], []]


def test_another_version_of_the_library_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(flags=1)
    monkeypatch.setattr(span_encoding, "encode_spans", library)
    spans = [usual(number) for number in range(5)]
    assert encode(spans) == Library(flags=1)(spans)
    assert library.given == [spans[:1], spans]


def test_what_the_library_refuses_is_refused() -> None:
    nameless: Any = None
    spans = [usual(), ReadableSpan(nameless, nameless)]
    for encoder in (encode_spans, encode):
        with pytest.raises(AttributeError, match="trace_id"):
            encoder(spans)

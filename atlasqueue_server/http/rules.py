"""The google.api.http options of an RPC: which methods and paths it has in REST."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor


@dataclass(frozen=True, slots=True)
class Rule:
    """One HTTP binding: "POST", a path template, and "", "*" or the field that the body is."""

    method: str
    template: str
    body: str


def rules_of(rpc: MethodDescriptor) -> Iterator[Rule]:
    """The bindings of `rpc`, the main one first; none when it has no option.

    Raises:
        ValueError: the option uses what is not supported here.
    """
    options = rpc.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    main = options.Extensions[annotations_pb2.http]
    for rule in (main, *main.additional_bindings):
        yield _rule(rpc, rule)


def _rule(rpc: MethodDescriptor, rule: HttpRule) -> Rule:
    kind = rule.WhichOneof("pattern")
    if kind == "custom" or rule.response_body:
        raise ValueError(f"{rpc.full_name}: custom methods and response_body are not supported")
    return Rule(kind.upper(), getattr(rule, kind), rule.body)

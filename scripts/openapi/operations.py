"""RPCs with a google.api.http option as OpenAPI operations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from atlasqueue_server.http.json_input import find_field, is_map
from atlasqueue_server.http.rules import Rule, rules_of
from scripts.openapi import errors
from scripts.openapi.contract import Contract
from scripts.openapi.schemas import Schemas, is_object

_VARIABLE = re.compile(r"\{([a-z_.]+)\}")


def paths(contract: Contract, schemas: Schemas) -> dict[str, dict[str, Any]]:
    """All path items."""
    found: dict[str, dict[str, Any]] = {}
    for service in contract.services:
        for rpc in service.methods:
            for index, rule in enumerate(rules_of(rpc)):
                path = _shown(rpc, rule.template)
                operation = _Operation(contract, schemas, rpc, rule).tree(index)
                found.setdefault(path, {})[rule.method.lower()] = operation
    return found


class _Operation:
    def __init__(
        self, contract: Contract, schemas: Schemas, rpc: MethodDescriptor, rule: Rule
    ) -> None:
        self._contract = contract
        self._schemas = schemas
        self._rpc = rpc
        self._rule = rule
        self._in_path = _VARIABLE.findall(rule.template)

    def tree(self, index: int) -> dict[str, Any]:
        """The operation; `index` numbers the bindings of an RPC."""
        comment = self._contract.comment(self._rpc.full_name)
        tree: dict[str, Any] = {
            "operationId": f"{self._rpc.name}{index + 1 if index else ''}",
            "tags": [self._rpc.containing_service.name],
            "summary": comment.summary,
            "description": comment.prose,
        }
        if parameters := [*self._path_parameters(), *self._query_parameters()]:
            tree["parameters"] = parameters
        if self._rule.body:
            tree["requestBody"] = self._body()
        responses = {"200": self._success()}
        tree["responses"] = responses | errors.responses(self._contract, self._rpc, self._rule)
        return tree

    def _path_parameters(self) -> Iterator[dict[str, Any]]:
        for path in self._in_path:
            field = _leaf(self._rpc, path)
            yield self._parameter(field, field.camelcase_name, "path", required=True)

    def _query_parameters(self) -> Iterator[dict[str, Any]]:
        if self._rule.body == "*":
            return
        taken = {path.split(".")[0] for path in self._in_path} | {self._rule.body}
        yield from self._query(self._rpc.input_type, "", taken)

    def _query(self, message: Descriptor, prefix: str, taken: set[str]) -> Iterator[dict[str, Any]]:
        for field in message.fields:
            if field.name in taken or is_map(field):
                continue
            name = f"{prefix}{field.camelcase_name}"
            if is_object(field):
                yield from self._query(cast(Descriptor, field.message_type), f"{name}.", set())
            else:
                required = self._schemas.is_required(field)
                yield self._parameter(field, name, "query", required=required)

    def _parameter(
        self, field: FieldDescriptor, name: str, where: str, *, required: bool
    ) -> dict[str, Any]:
        parameter: dict[str, Any] = {"name": name, "in": where}
        if required:
            parameter["required"] = True
        prose = self._contract.comment(field.full_name).prose
        return parameter | {
            "description": prose,
            "schema": self._schemas.parameter(field, required=required),
        }

    def _body(self) -> dict[str, Any]:
        message = self._rpc.input_type
        prefix = ""
        if self._rule.body != "*":
            message = cast(Descriptor, message.fields_by_name[self._rule.body].message_type)
            prefix = f"{self._rule.body}."
        without = {path.removeprefix(prefix) for path in self._in_path if path.startswith(prefix)}
        fields = [field for field in message.fields if field.name not in without]
        schema = self._schemas.received(message, frozenset(without))
        required = any(self._schemas.is_required(field) for field in fields)
        return {"required": required, "content": {"application/json": {"schema": schema}}}

    def _success(self) -> dict[str, Any]:
        message = self._rpc.output_type
        description = self._contract.comment(message.full_name).prose
        content: dict[str, Any] = {"application/json": {"schema": self._schemas.sent(message)}}
        if self._rpc.server_streaming:
            description += (
                "\n\nWith `Accept: application/json` the last of them, when the stream has ended. "
                "Otherwise each as it comes: a line of JSON, or an event with `Accept: text/event-stream`. "
                'An error after the first comes as a last line `{"error": Status}`, or as an event named `error`.'
            )
            content |= {
                kind: {"schema": {"type": "string"}}
                for kind in ("application/x-ndjson", "text/event-stream")
            }
        return {"description": description, "content": content}


def _shown(rpc: MethodDescriptor, template: str) -> str:
    """The template with its variables under the names of the parameters."""
    return _VARIABLE.sub(lambda match: f"{{{_leaf(rpc, match[1]).camelcase_name}}}", template)


def _leaf(rpc: MethodDescriptor, path: str) -> FieldDescriptor:
    message = rpc.input_type
    *parents, last = path.split(".")
    for parent in parents:
        message = cast(Descriptor, message.fields_by_name[parent].message_type)
    field = find_field(message, last)
    if field is None:
        raise ValueError(f"{rpc.full_name}: its path names {path}, which its request has not")
    return field

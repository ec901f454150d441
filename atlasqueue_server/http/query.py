"""Query strings to JSON trees: `pageSize=10&filter.kind=resize&state=JOB_STATE_READY`."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from atlasqueue_server.http.json_input import find_field, is_map, plain_message
from atlasqueue_server.model.errors import InvalidField, MalformedMessage

PARAMETERS_MAX: Final = 1000
_BOOLS: Final = {"true": True, "false": False}


def to_tree(raw_query: bytes, descriptor: Descriptor, taken: frozenset[str]) -> dict[str, Any]:
    """The JSON object that the query string stands for.

    Args:
        taken: names of the top-level fields that path or body set and a parameter may not.

    Raises:
        MalformedMessage: no query string, or not UTF-8.
        InvalidField: a parameter names no field that it may set.
    """
    tree: dict[str, Any] = {}
    for name, value in _pairs(raw_query):
        path = name.split(".")
        field = _resolve(descriptor, path, name)
        root = find_field(descriptor, path[0])
        assert root is not None
        if root.name in taken:
            raise InvalidField.of(name, "is set by the path or the body, not by a parameter")
        _put(tree, descriptor, path, field, name, value)
    return tree


def _pairs(raw_query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw_query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=PARAMETERS_MAX,
        )
    except UnicodeDecodeError as error:
        raise MalformedMessage("the query string is not percent-encoded UTF-8") from error
    except ValueError as error:
        raise MalformedMessage(
            f"the query string is not understood, or has more than {PARAMETERS_MAX} parameters"
        ) from error


def _resolve(descriptor: Descriptor, path: list[str], name: str) -> FieldDescriptor:
    field: FieldDescriptor | None = None
    for index, part in enumerate(path):
        if index:
            assert field is not None
            kind = plain_message(field)
            if kind is None or field.is_repeated:
                raise InvalidField.of(name, f"{field.name} has no fields of its own")
            descriptor = kind
        field = find_field(descriptor, part)
        if field is None:
            names = ", ".join(known.camelcase_name for known in descriptor.fields)
            raise InvalidField.of(name or '""', f"is no parameter here; there are {names}")
    assert field is not None
    if is_map(field) or plain_message(field):
        raise InvalidField.of(name, "is an object: set its fields, as in filter.kind=resize")
    return field


def _put(
    tree: dict[str, Any],
    descriptor: Descriptor,
    path: list[str],
    field: FieldDescriptor,
    name: str,
    value: str,
) -> None:
    node = tree
    for part in path[:-1]:
        parent = find_field(descriptor, part)
        assert parent is not None
        assert parent.message_type is not None
        node = node.setdefault(parent.name, {})
        descriptor = parent.message_type
    converted = _convert(field, name, value)
    if field.is_repeated:
        node.setdefault(field.name, []).append(converted)
    elif field.name in node:
        raise InvalidField.of(name, "must not be given twice")
    else:
        node[field.name] = converted


def _convert(field: FieldDescriptor, name: str, value: str) -> Any:
    if field.type == FieldDescriptor.TYPE_BOOL:
        if value not in _BOOLS:
            raise InvalidField.of(name, "must be true or false")
        return _BOOLS[value]
    if field.message_type is not None and field.message_type.name == "FieldMask":
        return _camel(value)
    return value


def _camel(mask: str) -> str:
    """The library knows masks in lowerCamelCase only; the contract's own names work too."""
    head, *tail = mask.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in tail)

"""JSON to messages, stricter and clearer than `json_format` alone.

Base64 must be base64 (the library drops what is not), a field may not come twice, and every refusal
names the field with its path in the request (`jobs[3].run_at`) and what it must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sized
from typing import Any, Final, NoReturn, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import InvalidField, MalformedMessage, Violation

# Possessive: what is no base64 at its end is not tried again from each of its characters.
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]*+={0,2}")
# What the library takes is wider: to it 1_0 is ten, 2.5 the second value of an enum, and +99:99 four days.
_INTEGER: Final = re.compile(r"-?[0-9]+")
_NUMBER: Final = re.compile(r"-?[0-9.]+([eE][-+]?[0-9]+)?|NaN|-?Infinity")
_FORMATS: Final = {
    "google.protobuf.Timestamp": re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
        r"(Z|[-+]([01][0-9]|2[0-3]):[0-5][0-9])"
    ),
    "google.protobuf.Duration": re.compile(r"-?[0-9]+(\.[0-9]{1,9})?s"),
}
_NUMBERS: Final = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT64,
    FieldDescriptor.CPPTYPE_FLOAT,
    FieldDescriptor.CPPTYPE_DOUBLE,
)
_BODY: Final = "(body)"
_SHOWN_CHARS: Final = 100
_VIOLATIONS_MAX: Final = 10

_WELL_KNOWN: Final = {
    "google.protobuf.Timestamp": 'must be a time such as "2030-01-31T12:00:00Z"',
    "google.protobuf.Duration": 'must be a duration in seconds such as "1.5s"',
    "google.protobuf.FieldMask": 'must be field names with commas such as "retryPolicy.maxBackoff"',
}
_SCALARS: Final = {
    FieldDescriptor.CPPTYPE_INT32: "must be a whole number from -2^31 to 2^31-1",
    FieldDescriptor.CPPTYPE_UINT32: "must be a whole number from 0 to 2^32-1",
    FieldDescriptor.CPPTYPE_INT64: "must be a whole number from -2^63 to 2^63-1",
    FieldDescriptor.CPPTYPE_UINT64: "must be a whole number from 0 to 2^64-1",
    FieldDescriptor.CPPTYPE_FLOAT: "must be a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "must be a number",
    FieldDescriptor.CPPTYPE_BOOL: "must be true or false",
    FieldDescriptor.CPPTYPE_STRING: "must be a string of Unicode characters",
}
_TOO_LONG: Final = f"must hold at most {limits.BATCH_ITEMS_MAX} items"
_BAD_BYTES: Final = "must be a string of base64 (bytes are base64 in JSON)"
# What the library lets through for wrong values, beside its own ParseError.
_REFUSALS: Final = (
    ParseError,
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
    RecursionError,
)


def load(body: bytes) -> Any:
    """The JSON value in `body`. Raises MalformedMessage."""
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
        )
    except RecursionError as error:
        raise MalformedMessage("the body is no JSON: nested too deeply") from error
    except ValueError as error:
        # The text of a decoding error would quote the body.
        why = (
            f"{error.msg} at character {error.pos}"
            if isinstance(error, json.JSONDecodeError)
            else ("it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error))
        )
        raise MalformedMessage(f"the body is no JSON: {why[:_SHOWN_CHARS]}") from error


def merge(tree: Any, message: Message) -> None:
    """Merge the JSON object `tree` into `message`.

    Raises:
        InvalidField: a field is unknown, comes twice or holds what it cannot.
    """
    descriptor = cast(Descriptor, message.DESCRIPTOR)
    found = list(_first(_object(tree, descriptor, "", False)))
    if found:
        raise InvalidField(found)
    try:
        ParseDict(tree, message)
    except _REFUSALS as error:
        found = list(_first(_object(tree, descriptor, "", True)))
        shown = " ".join(str(error).split())[:_SHOWN_CHARS]
        raise InvalidField(found or [Violation(_BODY, f"is refused: {shown}")]) from error


def find_field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    """The field called `name`, in snake_case or lowerCamelCase."""
    # Lone surrogates are an error to the library, and no field has any character beyond ASCII.
    if not name.isascii():
        return None
    found = descriptor.fields_by_name.get(name)
    if found is None:
        found = descriptor.fields_by_camelcase_name.get(name)
    return found


def plain_message(field: FieldDescriptor) -> Descriptor | None:
    """The message that the field holds, if that is an object in JSON."""
    kind = field.message_type
    return None if kind is None or kind.full_name in _WELL_KNOWN else kind


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("an object has the same key twice")
    return tree


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _first(violations: Iterator[Violation]) -> Iterator[Violation]:
    for _, violation in zip(range(_VIOLATIONS_MAX), violations, strict=False):
        yield violation


def _object(tree: Any, descriptor: Descriptor, path: str, deep: bool) -> Iterator[Violation]:
    """What is wrong with `tree`. `deep` also tries each single value of what the library refuses."""
    if not isinstance(tree, dict):
        yield Violation(path or _BODY, "must be a JSON object")
        return
    seen: set[str] = set()
    for key, value in tree.items():
        field = find_field(descriptor, key)
        name = field.name if field else key[:_SHOWN_CHARS] or '""'
        where = f"{path}.{name}" if path else name
        if field is None:
            yield Violation(where, f"is no field of {descriptor.name}; it has {_names(descriptor)}")
        elif field.name in seen:
            yield Violation(where, "must not be given twice")
        else:
            seen.add(field.name)
            yield from _oneof(field, value, seen, where)
            yield from _field(value, field, where, deep)


def _oneof(field: FieldDescriptor, value: Any, seen: set[str], where: str) -> Iterator[Violation]:
    group = field.containing_oneof
    if group is None or value is None or len(group.fields) == 1:
        return
    name = f"oneof {group.name}"
    if name in seen:
        yield Violation(where, f"only one of {', '.join(f.name for f in group.fields)} may be set")
    seen.add(name)


def _field(value: Any, field: FieldDescriptor, where: str, deep: bool) -> Iterator[Violation]:
    if value is None:
        return
    if is_map(field):
        yield from _map(value, field, where, deep)
    elif field.is_repeated:
        if not isinstance(value, list):
            yield Violation(where, "must be a JSON array")
            return
        if _is_too_long(value):
            yield Violation(where, _TOO_LONG)
            return
        for index, item in enumerate(value):
            yield from _item(item, field, f"{where}[{index}]", deep)
    else:
        yield from _item(value, field, where, deep)


def _map(value: Any, field: FieldDescriptor, where: str, deep: bool) -> Iterator[Violation]:
    if not isinstance(value, dict):
        yield Violation(where, "must be a JSON object")
        return
    if _is_too_long(value):
        yield Violation(where, _TOO_LONG)
        return
    for key, item in value.items():
        if deep and not _accepts(field, {key: item}):
            shown = key[:_SHOWN_CHARS]
            yield Violation(f'{where}["{shown}"]', _wanted(_value_field(field)))


def _value_field(field: FieldDescriptor) -> FieldDescriptor:
    entry = cast(Descriptor, field.message_type)
    return entry.fields_by_name["value"]


def _item(value: Any, field: FieldDescriptor, where: str, deep: bool) -> Iterator[Violation]:
    kind = plain_message(field)
    if kind is not None:
        # Trying each value of thousands of sound items would take the better part of a minute.
        if not deep or not _parses(value, kind):
            yield from _object(value, kind, where, deep)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        if not _is_base64(value):
            yield Violation(where, _BAD_BYTES)
    elif _is_misread(value, field) or (
        deep and not _accepts(field, [value] if field.is_repeated else value)
    ):
        yield Violation(where, _wanted(field))


def _is_misread(value: Any, field: FieldDescriptor) -> bool:
    """Whether the library would take the value for one that it hardly stands for."""
    if field.enum_type is not None:
        return type(value) in (bool, float) or (
            isinstance(value, str)
            # As with fields, lone surrogates are an error to the library.
            and not (value.isascii() and value in field.enum_type.values_by_name)
            and not _INTEGER.fullmatch(value)
        )
    if isinstance(value, bool):
        return field.cpp_type in _NUMBERS
    form = _FORMATS.get(field.message_type.full_name) if field.message_type else None
    if field.cpp_type in _NUMBERS:
        form = _NUMBER
    return form is not None and isinstance(value, str) and not form.fullmatch(value)


def _is_base64(value: Any) -> bool:
    if not isinstance(value, str) or not _BASE64.fullmatch(value):
        return False
    return len(value.rstrip("=")) % 4 != 1


def _is_too_long(value: Sized) -> bool:
    """Whether there are more items than any list or map of the contract may hold."""
    return len(value) > limits.BATCH_ITEMS_MAX


def _accepts(field: FieldDescriptor, value: Any) -> bool:
    return _parses({field.name: value}, cast(Descriptor, field.containing_type))


def _parses(tree: Any, descriptor: Descriptor) -> bool:
    try:
        ParseDict(tree, GetMessageClass(descriptor)())
    except _REFUSALS:
        return False
    return True


def _wanted(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return _WELL_KNOWN[field.message_type.full_name]
    if field.enum_type is not None:
        return f"must be one of {', '.join(value.name for value in field.enum_type.values)}"
    return _SCALARS[field.cpp_type]


def _names(descriptor: Descriptor) -> str:
    return ", ".join(field.camelcase_name for field in descriptor.fields) or "none"

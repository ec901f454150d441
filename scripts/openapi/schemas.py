"""Messages and enums as JSON Schema, as the canonical JSON mapping of protobuf has them.

A message that clients send takes no unknown fields. One that only clients send requires what its
comments call required; one that only the server sends has every field without presence, zeros included.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from scripts.openapi.bounds import bounds_of
from scripts.openapi.contract import Contract

Schema = dict[str, Any]

_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    # JavaScript has no numbers of 64 bits.
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_BYTES: {
        "type": "string",
        "format": "byte",
        "contentEncoding": "base64",
    },
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.rpc.Status": {"$ref": "#/components/schemas/Status"},
}


def is_object(field: FieldDescriptor) -> bool:
    """Whether the field holds one message that is an object in JSON."""
    kind = field.message_type
    return kind is not None and kind.full_name not in _WELL_KNOWN and not field.is_repeated


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


class Schemas:
    """Writes schemas, and remembers which messages and enums they refer to."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._sent: dict[str, Descriptor] = {}
        self._received: dict[str, Descriptor] = {}
        self._enums: dict[str, EnumDescriptor] = {}

    def sent(self, message: Descriptor) -> Schema:
        """The schema of a message that the server sends."""
        self._collect(message, self._sent)
        return ref(message.name)

    def received(self, message: Descriptor, without: frozenset[str] = frozenset()) -> Schema:
        """The schema of a message that clients send; `without`: fields that are set elsewhere."""
        if without:
            for field in message.fields:
                if field.message_type is not None and field.name not in without:
                    self._collect(field.message_type, self._received)
            return self._object(message, without, is_request=True)
        self._collect(message, self._received)
        return ref(message.name)

    def parameter(self, field: FieldDescriptor, *, required: bool) -> Schema:
        """The schema of a path or query parameter, without its description."""
        return self._value(field, is_request=True, is_required=required)

    def components(self) -> dict[str, Schema]:
        """Everything that was referred to."""
        found = {}
        for name, message in sorted((self._sent | self._received).items()):
            only_received = name not in self._sent
            found[name] = self._object(
                message,
                frozenset(),
                is_request=only_received,
                is_both=name in self._sent and name in self._received,
            )
        return found | {name: self._enum(enum) for name, enum in sorted(self._enums.items())}

    def _collect(self, message: Descriptor, into: dict[str, Descriptor]) -> None:
        if message.full_name in _WELL_KNOWN or message.name in into:
            return
        if not message.GetOptions().map_entry:
            into[message.name] = message
        for field in message.fields:
            if field.message_type is not None:
                self._collect(field.message_type, into)

    def _object(
        self,
        message: Descriptor,
        without: frozenset[str],
        *,
        is_request: bool,
        is_both: bool = False,
    ) -> Schema:
        fields = [field for field in message.fields if field.name not in without]
        if is_request:
            required = [field for field in fields if self.is_required(field)]
        else:
            required = [field for field in fields if not field.has_presence and not is_both]
        schema: Schema = {"type": "object"}
        if prose := self._contract.comment(message.full_name).prose:
            schema["description"] = prose
        schema["properties"] = {
            field.camelcase_name: self._value(
                field, is_request=is_request, is_required=self.is_required(field)
            )
            | self._description(field)
            for field in fields
        }
        if required:
            schema["required"] = [field.camelcase_name for field in required]
        if is_request or is_both:
            schema["additionalProperties"] = False
        return schema

    def is_required(self, field: FieldDescriptor) -> bool:
        """Whether the contract's comment begins with the word."""
        return self._contract.comment(field.full_name).prose.startswith("Required.")

    def _description(self, field: FieldDescriptor) -> Schema:
        prose = self._contract.comment(field.full_name).prose
        return {"description": prose} if prose else {}

    def _value(self, field: FieldDescriptor, *, is_request: bool, is_required: bool) -> Schema:
        bounds = bounds_of(field, is_request=is_request, is_required=is_required)
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            value = kind.fields_by_name["value"]
            return {"type": "object", "additionalProperties": self._one(value)} | bounds
        if field.is_repeated:
            items = self._one(field) | bounds.pop("items", {})
            return {"type": "array", "items": items} | bounds
        return self._one(field) | bounds

    def _one(self, field: FieldDescriptor) -> Schema:
        if field.enum_type is not None:
            self._enums[field.enum_type.name] = field.enum_type
            return ref(field.enum_type.name)
        if field.message_type is not None:
            known = _WELL_KNOWN.get(field.message_type.full_name)
            return dict(known) if known else ref(field.message_type.name)
        return dict(_SCALARS[field.type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        prose = self._contract.comment(enum.full_name).prose
        package = enum.file.package
        lines = [
            f"- `{value.name}`: {self._contract.comment(f'{package}.{value.name}').prose}"
            for value in enum.values
        ]
        names = [value.name for value in enum.values]
        return {"type": "string", "description": "\n".join([prose, "", *lines]), "enum": names}

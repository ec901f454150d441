"""Errors in the document: google.rpc.Status, and the HTTP statuses that an RPC may answer."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.rpc.code_pb2 import Code

from atlasqueue.v1 import errors_pb2
from atlasqueue_server.http.rules import Rule
from atlasqueue_server.rpc.errors import http_of_code
from scripts.openapi.contract import PACKAGE, Contract

_PREFIX = "ERROR_REASON_"
_TYPE = "type.googleapis.com/google.rpc."


def components(contract: Contract) -> dict[str, Any]:
    """The schemas of errors."""
    return {
        "Status": {
            "type": "object",
            "description": "A google.rpc.Status. Decide by the reason in the first of its details, never by its text.",
            "properties": {
                "code": {
                    "type": "integer",
                    "format": "int32",
                    "description": "The gRPC code: 3 is INVALID_ARGUMENT.",
                },
                "message": {"type": "string", "description": "What is wrong, for people."},
                "details": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"$ref": "#/components/schemas/ErrorDetail"},
                    "description": "The reason first; then, for INVALID_FIELD, the fields, and for what may be repeated, when.",
                },
            },
            "required": ["code", "message", "details"],
        },
        "ErrorDetail": {
            "description": "One of three, told apart by `@type`.",
            "oneOf": [
                {"$ref": f"#/components/schemas/{name}"}
                for name in ("ErrorInfo", "BadRequest", "RetryInfo")
            ],
        },
        "ErrorInfo": _detail(
            "ErrorInfo",
            "Why, for programs.",
            {
                "reason": {"$ref": "#/components/schemas/ErrorReason"},
                "domain": {"type": "string", "const": "atlasqueue"},
                "metadata": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "INTERNAL: `incident`, by which the server's log has the details.",
                },
            },
            ["reason", "domain"],
        ),
        "BadRequest": _detail(
            "BadRequest",
            "Which fields break which bound.",
            {
                "fieldViolations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "field": {
                                "type": "string",
                                "description": "jobs[3].run_at, for example.",
                            },
                            "description": {"type": "string", "description": "What it must be."},
                            "reason": {"type": "string"},
                        },
                        "required": ["field", "description"],
                    },
                }
            },
            ["fieldViolations"],
        ),
        "RetryInfo": _detail(
            "RetryInfo",
            "When to repeat the call.",
            {"retryDelay": {"type": "string", "description": 'In seconds, such as "1s".'}},
            ["retryDelay"],
        ),
        "ErrorReason": _reasons(contract),
    }


def responses(contract: Contract, rpc: MethodDescriptor, rule: Rule) -> dict[str, Any]:
    """The errors of a binding by HTTP status, from the comments on the RPC and on its file."""
    texts: dict[int, list[str]] = {}
    common = contract.comment(rpc.containing_service.file.name).statuses
    for code, text in common.items():
        # Too large a message, which HTTP has a status of its own for.
        if code != "RESOURCE_EXHAUSTED":
            _add(texts, code, text)
    for code, text in contract.comment(rpc.full_name).statuses.items():
        _add(texts, code, text)
    if "{" in rule.template:
        texts.setdefault(404, []).append("PATH_NOT_FOUND: a part of the path is empty.")
    if rule.method != "GET":
        texts[403] = ["FOREIGN_ORIGIN: a browser sends this for a page of another site."]
    if rule.body:
        texts[413] = ["BODY_TOO_LARGE: the body is over 4 MiB."]
        texts[415] = [
            "UNSUPPORTED_MEDIA_TYPE: the body is not called application/json, or is compressed."
        ]
    return {
        str(http): {
            "description": "\n".join(lines),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
        }
        for http, lines in sorted(texts.items())
    }


def _add(texts: dict[int, list[str]], code: str, text: str) -> None:
    texts.setdefault(http_of_code(Code.Value(code)), []).append(f"{code}: {text}")


def _detail(
    name: str, description: str, properties: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": {"@type": {"type": "string", "const": f"{_TYPE}{name}"}} | properties,
        "required": ["@type", *required],
    }


def _reasons(contract: Contract) -> dict[str, Any]:
    names = [v.name for v in errors_pb2.ErrorReason.DESCRIPTOR.values if v.number]
    lines = [
        f"- `{name.removeprefix(_PREFIX)}`: {contract.comment(f'{PACKAGE}.{name}').prose}"
        for name in names
    ]
    return {
        "type": "string",
        "description": "\n".join(["The reasons of errors.", "", *lines]),
        "enum": [name.removeprefix(_PREFIX) for name in names],
    }

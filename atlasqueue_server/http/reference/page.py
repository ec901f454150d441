"""The page: a list of operations, each operation with a line for curl, and the schemas."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, Final

from atlasqueue_server.http.reference.markup import (
    Schema,
    fields,
    inline,
    markdown,
    table,
    type_name,
)

_STYLE: Final = (Path(__file__).parent / "style.css").read_text("utf-8")
_VARIABLE: Final = re.compile(r"\{(\w+)\}")

Operation = tuple[str, str, dict[str, Any]]


def content_security_policy() -> str:
    """The header that lets a browser use the page's own style and fetch nothing."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def render(document: dict[str, Any]) -> str:
    """The page for an OpenAPI document."""
    info = document["info"]
    title = escape(info["title"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} REST</title><style>{_STYLE}</style></head>\n"
        f"<body><nav>{_navigation(document)}</nav>\n"
        f"<main><header><h1>{title} <small>REST {escape(info['version'])}</small></h1>"
        f'<p class="lead">{inline(info["summary"])}</p>{markdown(info["description"])}'
        '<p>The same as an <a href="openapi.json">OpenAPI document</a>. Lines for curl use '
        "<code>REST=http://127.0.0.1:7421</code>.</p></header>\n"
        f"{''.join(_sections(document))}{_schemas(document)}</main></body></html>\n"
    )


def _operations(document: dict[str, Any], tag: str) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def _navigation(document: dict[str, Any]) -> str:
    parts = [f'<a class="brand" href="#">{escape(document["info"]["title"])}</a>']
    for tag in document["tags"]:
        links = "".join(
            f'<li><a href="#{escape(operation["operationId"])}">{_badge(method)}'
            f"{escape(operation['operationId'])}</a></li>"
            for method, _, operation in _operations(document, tag["name"])
        )
        parts.append(f"<h2>{escape(tag['name'])}</h2><ul>{links}</ul>")
    names = "".join(
        f'<li><a href="#schema-{escape(name)}">{escape(name)}</a></li>'
        for name in document["components"]["schemas"]
    )
    return "".join([*parts, f"<h2>Schemas</h2><ul>{names}</ul>"])


def _sections(document: dict[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        articles = "".join(_article(*each) for each in _operations(document, tag["name"]))
        yield (
            f"<section><h2>{escape(tag['name'])}</h2>{markdown(tag['description'])}{articles}"
            "</section>\n"
        )


def _badge(method: str) -> str:
    return f'<span class="method {method.lower()}">{method}</span>'


def _article(method: str, path: str, operation: dict[str, Any]) -> str:
    name = escape(operation["operationId"])
    parameters = [
        (each["name"], each["schema"], each.get("required", False), each["description"])
        for each in operation.get("parameters", [])
    ]
    body = _json_schema(operation["requestBody"]) if "requestBody" in operation else None
    parts = [
        f'<h3>{_badge(method)}<a href="#{name}">{_path(path)}</a><small>{name}</small></h3>',
        markdown(operation["description"]),
        f"<pre>{escape(_curl(method, path, body))}</pre>",
    ]
    if parameters:
        parts.append(f"<h4>Parameters</h4>{table(parameters)}")
    if body is not None:
        parts.append(f"<h4>Body</h4>{_body(body)}")
    parts.append(f"<h4>Answers</h4>{''.join(_answers(operation['responses']))}")
    return f'<article id="{name}">{"".join(parts)}</article>\n'


def _path(path: str) -> str:
    return _VARIABLE.sub(r"<em>{\1}</em>", escape(path))


def _json_schema(holder: dict[str, Any]) -> Schema:
    schema: Schema = holder["content"]["application/json"]["schema"]
    return schema


def _body(schema: Schema) -> str:
    if "$ref" in schema:
        return f"<p>{type_name(schema)}</p>"
    return fields(schema) or "<p>None, or an empty object.</p>"


def _answers(responses: dict[str, Any]) -> Iterator[str]:
    for status, response in responses.items():
        kind = "good" if status.startswith("2") else "bad"
        yield (
            f'<details class="{kind}"{" open" if kind == "good" else ""}><summary><b>{escape(status)}</b> '
            f"{type_name(_json_schema(response))}</summary>{markdown(response['description'])}</details>"
        )


def _curl(method: str, path: str, body: Schema | None) -> str:
    address = f'"$REST{_VARIABLE.sub(lambda found: found[1].upper(), path)}"'
    if body is None:
        return f"curl -sS {'' if method == 'GET' else f'-X {method} '}{address}"
    required = dict.fromkeys(body.get("required", []), "…")
    verb = "" if method == "POST" else f"-X {method} "
    sent = json.dumps(required, ensure_ascii=False)
    return f"curl -sS {verb}-H 'content-type: application/json' -d '{sent}' {address}"


def _schemas(document: dict[str, Any]) -> str:
    articles = "".join(
        f'<article id="schema-{escape(name)}"><h3><a href="#schema-{escape(name)}">{escape(name)}</a>'
        f"</h3>{markdown(schema.get('description', ''))}{_shape(schema)}</article>\n"
        for name, schema in document["components"]["schemas"].items()
    )
    return f"<section><h2>Schemas</h2>{articles}</section>"


def _shape(schema: Schema) -> str:
    return fields(schema) if "properties" in schema else f"<p>{type_name(schema)}</p>"

"""Small pieces of HTML: escaped text, the little Markdown that the document holds, types, tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

Schema = dict[str, Any]

_CODE: Final = re.compile(r"`([^`]+)`")


def markdown(text: str) -> str:
    """Paragraphs, lists of one level, and code."""
    return "".join(_blocks(text.splitlines()))


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    items: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("- "):
            items.append(f"<li>{inline(line[2:])}</li>")
            continue
        if items:
            yield f"<ul>{''.join(items)}</ul>"
            items = []
        if line:
            yield f"<p>{inline(line)}</p>"


def inline(text: str) -> str:
    """Escaped text with its code marked."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def type_name(schema: Schema) -> str:
    """The type of a value, with links to the schemas that it names."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "oneOf" in schema:
        return " or ".join(type_name(option) for option in schema["oneOf"])
    if schema.get("type") == "array":
        return f"list of {type_name(schema['items'])}"
    values = schema.get("additionalProperties")
    if values:
        return f"map of {type_name(values)}"
    return escape(_scalar(schema))


def _scalar(schema: Schema) -> str:
    kind = str(schema.get("type", "any"))
    if schema.get("contentEncoding"):
        return f"{kind} ({schema['contentEncoding']})"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def bounds(schema: Schema) -> str:
    """What the schema says beside its type."""
    inner = schema.get("items", {}) if schema.get("type") == "array" else {}
    told = [
        f"{word} <code>{escape(str(found[key]))}</code>"
        for found in (schema, inner)
        for key, word in _BOUNDS.items()
        if key in found and found.get("format") != "int64"
    ]
    return f'<div class="bounds">{", ".join(told)}</div>' if told else ""


_BOUNDS: Final = {
    "const": "always",
    "minimum": "from",
    "maximum": "to",
    "minItems": "items from",
    "maxItems": "items up to",
    "maxProperties": "entries up to",
    "maxLength": "characters up to",
    "pattern": "matches",
}


def table(rows: Iterable[tuple[str, Schema, bool, str]]) -> str:
    """Fields or parameters: name, schema, whether required, description."""
    body = "".join(
        f"<tr><td><code>{escape(name)}</code>{_REQUIRED if required else ''}</td>"
        f'<td class="type">{type_name(schema)}</td>'
        f"<td>{markdown(description.removeprefix('Required.').strip())}{bounds(schema)}</td></tr>"
        for name, schema, required, description in rows
    )
    return f'<div class="scroll"><table>{body}</table></div>' if body else ""


_REQUIRED: Final = ' <span class="required">required</span>'


def fields(schema: Schema) -> str:
    """The table of an object's fields."""
    required = schema.get("required", [])
    return table(
        (name, value, name in required, str(value.get("description", "")))
        for name, value in schema.get("properties", {}).items()
    )

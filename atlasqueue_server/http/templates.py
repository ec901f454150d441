"""Path templates of google.api.http, compiled to regular expressions.

    /v1/queues/{job.queue}/jobs      {field} is one segment
    /v1/jobs/{job_id}:cancel         a verb after the last segment
    /v1/{name=files/**}              a field of several segments

A raw ":" in the last segment always begins the verb; as part of a value it is written %3A.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from atlasqueue_server.model.errors import MalformedMessage

_VARIABLE = re.compile(r"\{([A-Za-z0-9_.]+)(?:=([^{}]*))?\}")
_WILDCARD = re.compile(r"\*\*|\*")
_WILDCARDS = {"*": "[^/]+", "**": ".+"}


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled path template."""

    pattern: re.Pattern[str]
    fields: tuple[str, ...]

    def match(self, raw_path: str) -> dict[str, str] | None:
        """The decoded values by field path, or None when the path is another.

        Args:
            raw_path: the path as it was sent, percent-encoded.

        Raises:
            MalformedMessage: a value is not UTF-8.
        """
        found = self.pattern.fullmatch(raw_path)
        if found is None:
            return None
        try:
            values = [unquote(raw, errors="strict") for raw in found.groups()]
        except UnicodeDecodeError as error:
            raise MalformedMessage(f"the path is not UTF-8: {error.reason}") from error
        return dict(zip(self.fields, values, strict=True))


def compile_template(template: str) -> Template:
    """Compile `template`. Raises ValueError when it is none."""
    if not template.startswith("/"):
        raise ValueError(f"the path template {template!r} must start with /")
    end = max(template.rfind("/"), template.rfind("}"))
    colon = template.find(":", end)
    path, verb = (template[:colon], template[colon:]) if colon >= 0 else (template, "")
    fields: list[str] = []
    regex = "".join(_parts(path, fields))
    return Template(re.compile(regex + re.escape(verb)), tuple(fields))


def _parts(path: str, fields: list[str]) -> Iterator[str]:
    end = 0
    for variable in _VARIABLE.finditer(path):
        yield _literal(path[end : variable.start()])
        name, segments = variable.groups()
        end = variable.end()
        fields.append(name)
        if segments is None:
            yield "([^/:]+)" if end == len(path) else "([^/]+)"
        else:
            yield f"({_literal(segments)})"
    yield _literal(path[end:])


def _literal(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError(f"unbalanced braces in a path template at {text!r}")
    parts, end = [], 0
    for wildcard in _WILDCARD.finditer(text):
        parts += [re.escape(text[end : wildcard.start()]), _WILDCARDS[wildcard[0]]]
        end = wildcard.end()
    return "".join([*parts, re.escape(text[end:])])

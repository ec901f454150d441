"""Takes passwords out of texts that people will read."""

from __future__ import annotations

import re
from typing import Final

_URL: Final = re.compile(r"(://[^:/@\s]*:)[^/\s]*(?=@)")
_KEYWORD: Final = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)


def without_password(text: str) -> str:
    """`text` with the password of every URL and connection string in it replaced by ***."""
    if "@" not in text and "=" not in text:
        return text
    return _KEYWORD.sub(r"\1***", _URL.sub(r"\1***", text))

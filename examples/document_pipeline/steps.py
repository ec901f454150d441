"""What is done to a document, without any queue."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import TypedDict

WORD = re.compile(r"[^\W\d_]{4,}")
MARKUP = re.compile(r"`[^`]*`|\[([^\]]*)\]\([^)]*\)|[#*_>|`]")


class BrokenDocument(Exception):
    """The document cannot be read, now or ever, unless somebody mends it."""


class Analysis(TypedDict):
    """What is known of a text."""

    title: str
    words: int
    top: list[str]


def extract(path: Path) -> str:
    """The text of a document. Raises BrokenDocument."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise BrokenDocument(f"{path.name} is gone") from None
    except UnicodeDecodeError as error:
        raise BrokenDocument(f"{path.name} is no text: byte {error.start}") from None
    if not text.strip():
        raise BrokenDocument(f"{path.name} is empty")
    return MARKUP.sub(r"\1", text)


def analyse(text: str) -> Analysis:
    """Title, length and the words that matter most."""
    words = [word.lower() for word in WORD.findall(text)]
    title = next(line.strip() for line in text.splitlines() if line.strip())
    ranked = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))
    return {"title": title[:80], "words": len(words), "top": [word for word, _ in ranked[:5]]}


def content_name(text: str) -> str:
    """A name that the content alone decides: writing it twice does no harm."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]

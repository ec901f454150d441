"""The version of the installed distribution."""

from __future__ import annotations

from importlib import metadata
from typing import Final


def _installed() -> str:
    try:
        return metadata.version("atlasqueue-server")
    except metadata.PackageNotFoundError:
        return "0+source"


VERSION: Final = _installed()

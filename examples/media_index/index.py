"""What a job of this example does, without any queue: reads a file, hashes, parses and indexes it."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

FILES_WANTED = 2500
FILE_BYTES_MAX = 400_000


class Entry(TypedDict):
    """The index entry of one file."""

    sha256: str
    bytes: int
    lines: int
    functions: int
    classes: int
    imports: list[str]
    names: list[tuple[str, int]]


def source_files(wanted: int = FILES_WANTED) -> list[Path]:
    """Source files of the installed Python and its packages, as many as wanted or as there are."""
    paths = sysconfig.get_paths()
    found = sorted(_python_files(Path(paths["stdlib"])) | _python_files(Path(paths["purelib"])))
    return found[:wanted]


def _python_files(directory: Path) -> set[Path]:
    return {p for p in directory.rglob("*.py") if p.is_file() and p.stat().st_size < FILE_BYTES_MAX}


def index_file(path: Path) -> Entry:
    """The entry of a file. Raises OSError when it cannot be read; a file that is not Python is indexed too."""
    data = path.read_bytes()
    nodes = list(_nodes(data))
    names = Counter(node.id for node in nodes if isinstance(node, ast.Name))
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "lines": data.count(b"\n"),
        "functions": sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in nodes),
        "classes": sum(isinstance(n, ast.ClassDef) for n in nodes),
        "imports": sorted(set(_imports(nodes))),
        "names": sorted(names.items(), key=lambda item: (-item[1], item[0]))[:10],
    }


def _nodes(data: bytes) -> Iterator[ast.AST]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.walk(ast.parse(data))
    except (SyntaxError, ValueError, RecursionError):
        return iter(())


def _imports(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module

"""The contract as descriptors, and its comments by full name."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.rpc.code_pb2 import Code

ROOT = Path(__file__).parents[2]
PACKAGE = "atlasqueue.v1"
_CODES = frozenset(Code.keys())
_STATUS = re.compile(r"  ([A-Z_]+)  +(\S.*)")
# Field numbers in descriptor.proto, of which the paths of comments are made.
_FILE_PACKAGE, _FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 2, 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM, _ENUM_VALUE, _SERVICE_METHOD = 2, 3, 4, 2, 2


@dataclass(frozen=True)
class Comment:
    """What stands above a thing: prose in Markdown, and the statuses that it lists, by code."""

    prose: str = ""
    statuses: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first sentence, without its full stop."""
        return re.split(r"\.(?:\s|$)", self.prose, maxsplit=1)[0]


@dataclass(frozen=True)
class Contract:
    """The services, and every comment by the full name of what it describes (of a file: its path)."""

    services: list[ServiceDescriptor]
    comments: dict[str, Comment]

    def comment(self, name: str) -> Comment:
        """The comment on `name`; an empty one when there is none."""
        return self.comments.get(name, Comment())


def load() -> Contract:
    """Compiles proto/; the descriptors are those of the committed stubs, which `make generate` has just written."""
    buf = str(Path(sys.executable).parent / "buf")
    command = [buf, "build", "--as-file-descriptor-set", "-o", "-"]
    built = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    files = [file for file in FileDescriptorSet.FromString(built).file if file.package == PACKAGE]
    services = [service for file in files for service in _stub(file).services_by_name.values()]
    comments = {name: comment for file in files for name, comment in _comments(file)}
    return Contract(services, comments)


def _stub(file: FileDescriptorProto) -> FileDescriptor:
    name = file.name.removesuffix(".proto").replace("/", ".") + "_pb2"
    descriptor: FileDescriptor = importlib.import_module(name).DESCRIPTOR
    return descriptor


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, Comment]]:
    names = dict(_names(file))
    for location in file.source_code_info.location:
        name = names.get(tuple(location.path))
        if name and location.leading_comments:
            yield name, parse(location.leading_comments)


def _names(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    yield (_FILE_PACKAGE,), file.name
    for i, message in enumerate(file.message_type):
        yield from _in_message(message, (_FILE_MESSAGE, i), f"{file.package}.{message.name}")
    for i, enum in enumerate(file.enum_type):
        yield (_FILE_ENUM, i), f"{file.package}.{enum.name}"
        for j, value in enumerate(enum.value):
            yield (_FILE_ENUM, i, _ENUM_VALUE, j), f"{file.package}.{value.name}"
    for i, service in enumerate(file.service):
        yield (_FILE_SERVICE, i), f"{file.package}.{service.name}"
        for j, method in enumerate(service.method):
            path = (_FILE_SERVICE, i, _SERVICE_METHOD, j)
            yield path, f"{file.package}.{service.name}.{method.name}"


def _in_message(
    message: DescriptorProto, path: tuple[int, ...], name: str
) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, name
    for i, each in enumerate(message.field):
        yield (*path, _MESSAGE_FIELD, i), f"{name}.{each.name}"


def parse(text: str) -> Comment:
    """A comment as it stands in a file, with one space before each line."""
    paragraphs: list[str] = []
    statuses: dict[str, str] = {}
    code = ""
    for line in text.splitlines():
        line = line.removeprefix(" ").rstrip()
        found = _STATUS.fullmatch(line)
        if found and found[1] in _CODES:
            code = found[1]
            statuses[code] = found[2]
        elif code and line.startswith("    "):
            statuses[code] += " " + line.strip()
        elif not line or line.lstrip().startswith("- ") or not paragraphs:
            code = ""
            paragraphs.append(line.strip())
        else:
            paragraphs[-1] = f"{paragraphs[-1]} {line.strip()}".strip()
    return Comment("\n".join(paragraphs).strip(), statuses)

"""Bounds of the contract, checked field by field; every violation of a request is named at once.

The same checks serve gRPC and REST, because both call the same handlers. The numbers are those of
model/limits.py.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import InvalidField, Violation

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
UUID_BYTES = 16
UUID_CHARS = 36
UUID_HYPHENS = (8, 13, 18, 23)
NIL_UUID = "00000000-0000-0000-0000-000000000000"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANOS_MAX = 999_999_999
VIOLATIONS_MAX = 100


def is_name(value: str) -> bool:
    """Whether this is a name. Few names come again and again, so short ones are remembered."""
    return len(value) <= limits.NAME_CHARS_MAX and _is_name(value)


@lru_cache(maxsize=1_000)
def _is_name(value: str) -> bool:
    return limits.NAME.match(value) is not None


def is_job_id(value: str) -> bool:
    """Whether this is a UUID in the canonical text form, and not the nil one."""
    return UUID.match(value) is not None and value != NIL_UUID


def are_job_ids(values: Sequence[str]) -> bool:
    """Whether all of these are, in a fraction of the time that one by one takes."""
    count, text = len(values), "".join(values)
    hyphens = "-" * count
    # As many hyphens as belong there, each in its place: the rest is to be hexadecimal digits.
    formed = (
        len(text) == UUID_CHARS * count
        and all(len(value) == UUID_CHARS for value in values)
        and text.count("-") == len(UUID_HYPHENS) * count
        and all(text[at::UUID_CHARS] == hyphens for at in UUID_HYPHENS)
    )
    try:
        # fromhex skips white space, which then is missing.
        return (
            formed
            and len(bytes.fromhex(text.replace("-", ""))) == UUID_BYTES * count
            and NIL_UUID not in values
        )
    except ValueError:
        return False


class Checker:
    """Collects violations; each check returns the value in the domain's form, or a stand-in."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.violations: list[Violation] = []

    def refuse(self, field: str, bound: str) -> None:
        """Notes that `field` breaks `bound`."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(self._prefix + field, bound))

    def raise_if_refused(self) -> None:
        """Raises InvalidField if anything was refused."""
        if self.violations:
            raise InvalidField(self.violations)

    def name(self, field: str, value: str) -> str:
        """A required name."""
        if not is_name(value):
            self.refuse(field, f"must match {limits.NAME_PATTERN}")
        return value

    def optional_name(self, field: str, value: str) -> str:
        """A name, or nothing."""
        return self.name(field, value) if value else value

    def job_id(self, field: str, value: str) -> str:
        """A required id, in canonical form."""
        if not is_job_id(value):
            self.refuse(field, "must be a UUID of 36 characters, not all zeros")
        return value.lower()

    def integer(self, field: str, value: int, least: int, most: int) -> int:
        """An integer within bounds."""
        if not least <= value <= most:
            self.refuse(field, f"must be {least} to {most}")
        return value

    def text(self, field: str, value: str, bytes_max: int) -> str:
        """Text without NUL."""
        if "\0" in value:
            self.refuse(field, "must not hold the character U+0000")
        if len(value.encode()) > bytes_max:
            self.refuse(field, f"must be at most {bytes_max} bytes")
        return value

    def data(self, field: str, value: bytes, bytes_max: int) -> bytes:
        """Bytes."""
        if len(value) > bytes_max:
            self.refuse(field, f"must be at most {bytes_max} bytes, is {len(value)}")
        return value

    def count(self, field: str, count: int, least: int, most: int) -> None:
        """The length of a list. Raises at once: a message holds millions of items to look at."""
        if not least <= count <= most:
            self.refuse(field, f"must hold {least} to {most} items, holds {count}")
            self.raise_if_refused()

    def enum(self, field: str, value: int, kind: EnumDescriptor) -> int:
        """A known value of an enum."""
        if value not in kind.values_by_number:
            self.refuse(field, f"must be one of {', '.join(kind.values_by_name)}")
        return value

    def page_size(self, value: int) -> int:
        """The size of a page; 0 stands for the default."""
        if not value:
            return limits.PAGE_SIZE_DEFAULT
        return self.integer("page_size", value, 1, limits.PAGE_SIZE_MAX)

    def page_token(self, value: str) -> str:
        """The text of a page token."""
        return self.text("page_token", value, limits.PAGE_TOKEN_CHARS_MAX)

    def time(self, field: str, value: Timestamp, most: datetime | None = None) -> datetime:
        """A time, not before 1970 and not after `most`, to the microsecond."""
        far = most or datetime(9999, 1, 1, tzinfo=UTC)
        seconds_max = int(far.timestamp())
        if not 0 <= value.seconds <= seconds_max or not 0 <= value.nanos <= NANOS_MAX:
            bound = f"must be 1970-01-01T00:00:00Z to {far:%Y-%m-%dT%H:%M:%SZ}"
            self.refuse(field, f"{bound} (10 years ahead)" if most else bound)
            return EPOCH
        return EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)

    def milliseconds(self, field: str, value: Duration, least_s: int, most_s: int) -> int:
        """A duration within bounds, in whole milliseconds."""
        total = value.seconds * 10**9 + value.nanos
        # By its own definition a Duration has one sign.
        whole = abs(value.nanos) <= NANOS_MAX and value.seconds * value.nanos >= 0
        if not whole or not least_s * 10**9 <= total <= most_s * 10**9:
            self.refuse(field, f"must be {least_s} s to {most_s} s")
            return least_s * 1000
        return total // 10**6

    def headers(self, field: str, headers: Mapping[str, str]) -> None:
        """Text beside the payload."""
        if not headers:
            return
        if len(headers) > limits.HEADERS_MAX:
            self.refuse(field, f"must hold at most {limits.HEADERS_MAX} entries")
            return
        total = sum(len(key.encode()) + len(value.encode()) for key, value in headers.items())
        if total > limits.HEADERS_BYTES_MAX:
            self.refuse(field, f"must be at most {limits.HEADERS_BYTES_MAX} bytes in all")
        if not all(1 <= len(key) <= limits.HEADER_KEY_CHARS_MAX for key in headers):
            self.refuse(field, f"keys must have 1 to {limits.HEADER_KEY_CHARS_MAX} characters")
        if any("\0" in key or "\0" in value for key, value in headers.items()):
            self.refuse(field, "must not hold the character U+0000")

    def once(self, field: str, leases: Iterable[Hashable]) -> None:
        """Leases, each named once."""
        seen: set[Hashable] = set()
        for i, lease in enumerate(leases):
            if lease in seen:
                self.refuse(f"{field}[{i}]", "names a lease that an earlier one names: once each")
            seen.add(lease)

    def queues(self, field: str, names: Sequence[str]) -> tuple[str, ...]:
        """The queues of a session: some, each once."""
        self.count(field, len(names), 1, limits.SESSION_QUEUES_MAX)
        listed = tuple(names)
        for i, name in enumerate(listed):
            self.name(f"{field}[{i}]", name)
        if len(set(listed)) < len(listed):
            self.refuse(field, "must name each queue once")
        return listed

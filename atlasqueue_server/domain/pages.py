"""Page tokens: where the next page begins, opaque to clients.

A token holds what the order of its list goes by. In a list of another order it would stand for the
beginning, so that a caller would see, or cancel, the same jobs again; it is refused there.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import asdict, dataclass
from enum import Enum

from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import InvalidField

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class Order(Enum):
    """What a list goes by: the fields that its tokens set."""

    JOB_ID = frozenset({"job_id"})
    DISPATCH = frozenset({"priority", "seq"})
    NAME = frozenset({"name"})
    SESSION = frozenset({"seq"})


@dataclass(frozen=True, slots=True)
class PageToken:
    """The last thing that the page before has shown; only what its order needs is set."""

    job_id: str = ""
    name: str = ""
    priority: int = 0
    seq: int = 0

    def encode(self) -> str:
        """The token as text."""
        known = {key: value for key, value in asdict(self).items() if value}
        return base64.urlsafe_b64encode(json.dumps(known).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, order: Order) -> PageToken:
        """The token of a text, or the start for an empty one.

        Raises:
            InvalidField: it is no token, or one of a list of another order.
        """
        if not text:
            return cls()
        try:
            padded = text + "=" * (-len(text) % 4)
            known = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            token = cls(**known)
        except (binascii.Error, ValueError, TypeError) as error:
            raise _refused() from error
        if known.keys() != order.value or not token._well_formed():
            raise _refused()
        return token

    def _well_formed(self) -> bool:
        return (
            isinstance(self.job_id, str)
            and (not self.job_id or _UUID.match(self.job_id) is not None)
            and isinstance(self.name, str)
            and (not self.name or limits.NAME.match(self.name) is not None)
            and type(self.priority) is int
            and 0 <= self.priority < 100
            and type(self.seq) is int
            and 0 <= self.seq <= limits.INT64_MAX
        )


def _refused() -> InvalidField:
    return InvalidField.of("page_token", "must be a next_page_token of the same list")

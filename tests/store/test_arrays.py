"""Arrays that are encoded as a whole arrive as PostgreSQL would have read them one by one."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from atlasqueue_server.store import arrays
from tests.factories import execute


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
async def test_ids_in_binary_form_arrive_in_their_order(connection: Any, count: int) -> None:
    arrays.register(connection)
    ids = [uuid.uuid4() for _ in range(count)]
    sent = arrays.uuids_of_bytes(b"".join(each.bytes for each in ids))
    rows = await execute(
        connection,
        "select x, cardinality(x), coalesce(array_lower(x, 1), 1), x = %(text)s::uuid[]"
        " from (select %(sent)s::uuid[] as x) as _",
        sent=sent,
        text=arrays.uuids(map(str, ids)),
    )
    assert rows == [(ids, count, 1, True)]


@pytest.mark.parametrize("alone", [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)])
async def test_every_byte_of_an_id_arrives(connection: Any, alone: uuid.UUID) -> None:
    arrays.register(connection)
    sent = arrays.uuids_of_bytes(alone.bytes)
    assert await execute(connection, "select %(sent)s", sent=sent) == [([alone],)]

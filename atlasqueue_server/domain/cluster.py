"""Who works and who leads: sessions of workers, servers, the leader's term."""

from __future__ import annotations

from dataclasses import dataclass

from atlasqueue_server.model import limits
from atlasqueue_server.store import cluster as store
from atlasqueue_server.store.cluster import ServerRow
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.sessions import SessionRow, list_sessions


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The servers seen of late, and the leader; leader is empty while there is none."""

    servers: list[ServerRow]
    leader: str
    term: int
    leader_time_left_s: float


class Cluster:
    """The cluster as the database knows it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def workers(self, before: int, most: int) -> list[SessionRow]:
        """Up to `most` live sessions below `before` (0: from the newest)."""
        return await list_sessions(self._database, before or limits.INT64_MAX, most)

    async def view(self) -> ClusterView:
        """Servers and leader."""
        rows = await store.get_cluster(self._database, limits.PRESENT_WITHIN_S)
        row = rows[0]
        left = row.leader_time_left_s or 0.0
        leader = row.leader if row.leader and left > 0 else ""
        servers = [r for r in rows if r.server_id]
        return ClusterView(servers, leader, row.term or 0, max(0.0, left) if leader else 0.0)

"""What a scenario may choose about its world."""

from __future__ import annotations

from dataclasses import dataclass

POSTGRES = {
    # Nothing here survives a power cut, and nothing here cuts the power.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "120",
}


@dataclass(frozen=True)
class Settings:
    """How a scenario wants its world. Short times, so that a run is short; seconds.

    expiry_extra_s: granted beyond the 2 s of I6, where more leases end at once than are expired in that time.
    standby: "" for none, or how it follows the primary: "synchronous" (commits wait for it), "asynchronous".
    disk_mb: PostgreSQL's disk is a tmpfs of this size; 0: the machine's own.
    """

    servers: int = 2
    workers: int = 2
    slots: int = 10
    visibility_timeout_s: float = 2.0
    leader_lease_s: float = 1.0
    ping_s: float = 1.0
    pool_max: int = 6
    standby: str = ""
    disk_mb: int = 0
    expiry_extra_s: float = 0.0

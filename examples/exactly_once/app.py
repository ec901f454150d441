"""An effect that happens once although its job may run twice: the fence goes into the row.

Two handlers charge an order. Between reading and writing, each may be held up for longer than its lease lasts; then another
worker runs the job again. The naive one charges twice. The fenced one raises the row's fence before it
begins and writes only while the row still carries its own: whoever is late finds a higher one and is refused.

  worker A, fence 7:  raise to 7 ......... (paused) ............. write if fence = 7 ──▶ 0 rows: refused
  worker B, fence 9:            raise to 9 ── write if fence = 9 ──▶ 1 row
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg

from atlasqueue_worker import App, JobContext

QUEUE = "charges"
SCHEMA = """
    create schema shop;
    create table shop.orders (
        id integer primary key,
        charges integer not null default 0,
        fence bigint not null default 0
    )
"""

app = App()


def connect() -> psycopg.Connection:
    """A connection to the shop's own tables; they may be in any database."""
    return psycopg.connect(os.environ["SHOP_DATABASE_URL"], autocommit=True)


@app.job("charge-naive", queue=QUEUE)
def charge_naive(job: JobContext) -> str:
    """Looks, then writes: what is true when it looks need not be when it writes."""
    order = job.json()["order"]
    with connect() as shop:
        row = shop.execute("select charges from shop.orders where id = %s", [order]).fetchone()
        if row == (0,):
            hold_up(job)
            shop.execute("update shop.orders set charges = charges + 1 where id = %s", [order])
    return note(job, "charged")


@app.job("charge-fenced", queue=QUEUE)
def charge_fenced(job: JobContext) -> str:
    """Writes the effect and checks the fence in one statement, so that nothing comes between."""
    order = {"order": job.json()["order"], "fence": job.fence}
    with connect() as shop:
        shop.execute(
            "update shop.orders set fence = %(fence)s where id = %(order)s and fence < %(fence)s",
            order,
        )
        hold_up(job)
        charged = shop.execute(
            # charges = 0: a run whose report was lost has charged already, and a later one only completes.
            "update shop.orders set charges = charges + 1"
            " where id = %(order)s and fence = %(fence)s and charges = 0",
            order,
        )
        if charged.rowcount == 1:
            return note(job, "charged")
        (fence,) = shop.execute(
            "select fence from shop.orders where id = %(order)s", order
        ).fetchone() or (None,)
    # What a late run returns does not matter: the server refuses its report as well.
    return note(job, "refused" if fence != job.fence else "charged before")


def hold_up(job: JobContext) -> None:
    """The first run is held up, as by a paused machine or a slow network, until the file `go` is there."""
    notes = Path(os.environ["SHOP_NOTES"])
    if job.deliveries == 1:
        (notes / f"{job.kind}.held").touch()
        while not (notes / "go").exists():
            time.sleep(0.05)


def note(job: JobContext, what: str) -> str:
    """Tells the example what happened, in order."""
    with (Path(os.environ["SHOP_NOTES"]) / job.kind).open("a") as notes:
        notes.write(f"run {job.deliveries} (fence {job.fence}): {what}\n")
    return what

"""The shop's web side: an order and the job that confirms it are stored in one transaction.

POST /orders ──▶ begin ──▶ insert order ──▶ SELECT atlasqueue.enqueue(...) ──▶ take from stock ──▶ commit
                                                                                  └─ not enough ──▶ rollback: no order, no job

No call to the queue's server, no outbox table, no second commit that could fail alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.errors import CheckViolation
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

QUEUE = "mails"
KIND = "confirm-order"
SCHEMA = [
    "create schema shop",
    "create table shop.stock (item text primary key, quantity integer not null check (quantity >= 0))",
    """
    create table shop.orders (
        id integer generated always as identity primary key,
        item text not null references shop.stock,
        quantity integer not null,
        confirmed boolean not null default false
    )
    """,
]


async def place_order(request: Request) -> Response:
    """Stores an order with its job; 409 when the stock does not suffice."""
    order = await request.json()
    pool: AsyncConnectionPool[psycopg.AsyncConnection[tuple[int]]] = request.app.state.pool
    try:
        # The connection of a pool is one transaction: committed at the end, rolled back by an exception.
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "insert into shop.orders (item, quantity) values (%(item)s, %(quantity)s) returning id",
                order,
            )
            (order_id,) = await cursor.fetchone() or (0,)
            await connection.execute(
                "select atlasqueue.enqueue(queue => %s, kind => %s, payload => %s)",
                [QUEUE, KIND, json.dumps({"order": order_id}).encode()],
            )
            await connection.execute(
                "update shop.stock set quantity = quantity - %(quantity)s where item = %(item)s",
                order,
            )
    except CheckViolation:
        return JSONResponse({"error": "not enough in stock"}, status_code=409)
    return JSONResponse({"id": order_id}, status_code=201)


async def show_order(request: Request) -> Response:
    """An order, and whether its job has run."""
    async with request.app.state.pool.connection() as connection:
        cursor = await connection.execute(
            "select id, confirmed from shop.orders where id = %s", [request.path_params["id"]]
        )
        row = await cursor.fetchone()
    if row is None:
        return JSONResponse({"error": "no such order"}, status_code=404)
    return JSONResponse({"id": row[0], "confirmed": row[1]})


@asynccontextmanager
async def lifespan(web: Starlette) -> AsyncIterator[None]:
    """Opens the pool."""
    async with AsyncConnectionPool(os.environ["SHOP_DATABASE_URL"], open=False) as pool:
        web.state.pool = pool
        yield


web = Starlette(
    routes=[
        Route("/orders", place_order, methods=["POST"]),
        Route("/orders/{id:int}", show_order),
    ],
    lifespan=lifespan,
)

"""The OpenAPI document and the page that is rendered from it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from atlasqueue_server.http.description import DOCUMENT
from atlasqueue_server.http.reference.markup import markdown
from atlasqueue_server.http.rules import rules_of
from scripts.openapi.__main__ import document
from scripts.openapi.contract import load, parse
from tests.http.conftest import World
from tests.rpc.fakes import bound


@pytest.fixture(scope="module")
def tree() -> Any:
    """The committed document."""
    return json.loads(DOCUMENT.read_text("utf-8"))


def operations(tree: Any) -> list[tuple[str, str, Any]]:
    """Method, path and operation of each."""
    return [
        (method.upper(), path, operation)
        for path, item in tree["paths"].items()
        for method, operation in item.items()
    ]


def test_the_document_validates(tree: Any) -> None:
    OpenAPIV31SpecValidator(tree).validate()


def test_the_document_is_what_the_contract_says(tree: Any) -> None:
    assert document(load()) == tree, "run make generate"


def test_every_path_that_is_served_is_described_and_no_other(tree: Any, world: World) -> None:
    def nameless(path: str) -> str:
        return re.sub(r"\{[^}]*\}", "{}", path)

    served = {
        (rule.method, nameless(rule.template), rpc.descriptor.name)
        for rpc in bound(world.handlers)
        for rule in rules_of(rpc.descriptor)
    }
    described = {
        (method, nameless(path), re.sub(r"\d+$", "", operation["operationId"]))
        for method, path, operation in operations(tree)
    }
    assert described == served


def test_every_rpc_but_the_workers_has_a_path(world: World) -> None:
    """What a worker does is gRPC only."""
    without = [rpc.name for rpc in bound(world.handlers) if not list(rules_of(rpc.descriptor))]
    assert {name.partition("/")[0] for name in without} == {"WorkerService"}


def test_everything_is_described_in_words(tree: Any) -> None:
    for _, _, operation in operations(tree):
        assert operation["summary"]
        assert all(each["description"] for each in operation.get("parameters", []))
        assert all(each["description"] for each in operation["responses"].values())
    for name, schema in tree["components"]["schemas"].items():
        assert schema["description"], name


def test_the_statuses_are_those_of_the_comments(tree: Any) -> None:
    enqueue = tree["paths"]["/v1/queues/{queue}/jobs"]["post"]["responses"]
    assert "JOB_ID_CONFLICT" in enqueue["409"]["description"]
    assert "TOO_MANY_QUEUES" in enqueue["429"]["description"]
    assert "409" not in tree["paths"]["/v1/queues"]["get"]["responses"]


def test_a_comment_is_prose_and_statuses() -> None:
    comment = parse(
        " Stores it. Safe to\n repeat.\n\n - one\n   more\n   NOT_FOUND  JOB_NOT_FOUND,\n"
        "              or purged.\n   no status  here\n"
    )
    assert comment.summary == "Stores it"
    assert comment.statuses == {"NOT_FOUND": "JOB_NOT_FOUND, or purged."}
    assert comment.prose == "Stores it. Safe to repeat.\n\n- one more no status  here"


async def test_the_document_is_served(client: httpx.AsyncClient, tree: Any) -> None:
    answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == tree


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        assert not {"src", "style", "srcset"} & set(found)
        self.links += [found["href"] or ""] if "href" in found else []
        if "id" in found:
            assert found["id"] not in self.ids
            self.ids.add(found["id"] or "")


async def test_the_page_shows_every_operation_and_loads_nothing(
    client: httpx.AsyncClient, tree: Any
) -> None:
    answer = await client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = _Page(answer.text)
    assert not page.tags & {"script", "link", "img", "iframe", "base"}
    assert "url(" not in answer.text
    assert "@import" not in answer.text
    assert {operation["operationId"] for _, _, operation in operations(tree)} <= page.ids
    assert {f"schema-{name}" for name in tree["components"]["schemas"]} <= page.ids
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside - {""} <= page.ids
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}


def test_text_of_the_document_is_escaped_in_the_page() -> None:
    shown = markdown("a <b> `x < y`\n- <i>\n- two")
    assert shown == (
        "<p>a &lt;b&gt; <code>x &lt; y</code></p><ul><li>&lt;i&gt;</li><li>two</li></ul>"
    )

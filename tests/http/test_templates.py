"""Path templates of google.api.http."""

from __future__ import annotations

import pytest

from atlasqueue_server.http.templates import compile_template
from atlasqueue_server.model.errors import MalformedMessage


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/v1/queues", "/v1/queues", {}),
        ("/v1/queues", "/v1/queues/", None),
        ("/v1/queues", "/v1/queues/media", None),
        ("/v1/queues/{queue}", "/v1/queues/media", {"queue": "media"}),
        ("/v1/queues/{queue}", "/v1/queues/a%2Fb", {"queue": "a/b"}),
        ("/v1/queues/{queue}", "/v1/queues/%C3%A9", {"queue": "é"}),
        ("/v1/queues/{queue}", "/v1/queues/media:pause", None),
        ("/v1/queues/{queue}", "/v1/queues/media%3Apause", {"queue": "media:pause"}),
        ("/v1/queues/{queue}", "/v1/queues/", None),
        ("/v1/queues/{queue}:pause", "/v1/queues/media:pause", {"queue": "media"}),
        ("/v1/queues/{job.queue}/jobs", "/v1/queues/media/jobs", {"job.queue": "media"}),
        ("/v1/queues/{job.queue}/jobs", "/v1/queues/a:b/jobs", {"job.queue": "a:b"}),
        ("/v1/q/{queue}/j/{id}:cancel", "/v1/q/m/j/7:cancel", {"queue": "m", "id": "7"}),
        ("/v1/jobs:enqueueBatch", "/v1/jobs:enqueueBatch", {}),
        ("/v1/jobs:enqueueBatch", "/v1/jobsxenqueueBatch", None),
        ("/v1/{name=files/**}:read", "/v1/files/a/b:read", {"name": "files/a/b"}),
        ("/v1/{name=files/*}", "/v1/files/a/b", None),
        ("/v1/*/jobs", "/v1/any/jobs", {}),
    ],
)
def test_match(template: str, path: str, values: dict[str, str] | None) -> None:
    assert compile_template(template).match(path) == values


def test_a_value_that_is_not_utf8_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="UTF-8"):
        compile_template("/v1/queues/{queue}").match("/v1/queues/%ff")


@pytest.mark.parametrize("template", ["v1/queues", "/v1/{queue", "/v1/queue}"])
def test_what_is_no_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="path template"):
        compile_template(template)

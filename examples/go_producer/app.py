"""The Python worker. It does not know in which language the producer is written."""

from __future__ import annotations

import json
from pathlib import Path

from atlasqueue_worker import App, JobContext, Reject

QUEUE = "documents"
app = App()


def words_in(text: str) -> int:
    """How many words a text has."""
    return len(text.split())


@app.job("count-words", queue=QUEUE)
def count_words(job: JobContext) -> bytes:
    """Payload {"path": ...}, result {"words": ...}, both JSON."""
    path = Path(json.loads(job.payload)["path"])
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        # No retry would make it a text. The producer reads this reason, in its own language.
        raise Reject(f"{path.name} is not UTF-8") from None
    return json.dumps({"words": words_in(text)}).encode()

"""A program that starts the embedded PostgreSQL, tells about it and waits; the tests kill it.

Run by path as `program.py SETTINGS`, where SETTINGS is a JSON object of arguments of
EmbeddedPostgres plus "root" (where to import from) and "fork" (leave a forked child behind).
Writes one line of JSON when ready, and ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def main(arguments: dict[str, Any]) -> None:
    sys.path.insert(0, arguments.pop("root"))
    from atlasqueue_server.embedded import EmbeddedPostgres

    fork = arguments.pop("fork", False)
    for name in ("data_directory", "binaries"):
        if name in arguments:
            arguments[name] = Path(arguments[name])
    postgres = EmbeddedPostgres(**arguments)
    # From a thread that ends: the server must outlive the thread that started it.
    starter = threading.Thread(target=postgres.start)
    starter.start()
    starter.join()
    child = os.fork() if fork else None
    if child == 0:
        os.close(1)
        signal.pause()
    told = {"pid": postgres.pid, "url": postgres.url, "way": postgres.run_as, "child": child}
    print(json.dumps(told), flush=True)
    sys.stdin.read()
    postgres.stop()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

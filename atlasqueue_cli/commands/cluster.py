"""`atlasqueue workers, cluster, top`."""

from __future__ import annotations

from typing import Annotated

import typer

from atlasqueue_cli.help import examples
from atlasqueue_cli.options import Settings

WORKERS_EPILOG = examples(
    "atlasqueue workers", "atlasqueue workers -o json | jq -r '[.worker, .leased] | @tsv'"
)


def workers(settings: Settings) -> None:
    """List the workers that live. Newest first, and how busy they are."""
    from atlasqueue_cli import cluster

    cluster.workers(settings)


CLUSTER_EPILOG = examples("atlasqueue cluster", "atlasqueue cluster -o json | jq -r .leader")


def show_cluster(settings: Settings) -> None:
    """List the servers. Tells which one leads the scheduler."""
    from atlasqueue_cli import cluster

    cluster.show(settings)


TOP_EPILOG = examples(
    "atlasqueue top",
    "atlasqueue top --interval 5",
    "atlasqueue top --count 1 -o json     one sample, for a script",
)


def top(
    settings: Settings,
    interval: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds between looks.")
    ] = 1.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after so many looks. [default: at Ctrl-C]")
    ] = None,
) -> int:
    """Watch queues, rates, workers and servers. Ends with Ctrl-C.

    Into a pipe it prints one look below the other.
    """
    from atlasqueue_cli import top as work

    return work.top(settings, interval, count)

"""The Prometheus configuration of the repository, with other targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

DIRECTORY = Path(__file__).parents[1] / "prometheus"


def prometheus_config(
    servers: Sequence[str], workers: Sequence[str] = (), *, scrape_each: str = "5s"
) -> str:
    """deploy/prometheus/prometheus.yml for servers and workers at these host:port addresses.

    Rules are named by their full path, so that the result can stand anywhere.
    """
    config = yaml.safe_load((DIRECTORY / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = config["global"]["evaluation_interval"] = scrape_each
    config["rule_files"] = [str(DIRECTORY / name) for name in config["rule_files"]]
    targets = {"atlasqueue-server": list(servers), "atlasqueue-worker": list(workers)}
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": targets[job]}]}
        for job in targets
        if targets[job]
    ]
    return yaml.safe_dump(config, sort_keys=False)

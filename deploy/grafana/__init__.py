"""Dashboards as code: `boards.py` says what they show, `build.py` writes the JSON that Grafana loads."""

"""The topology of deploy/compose.yaml as plain processes: `make cluster`."""

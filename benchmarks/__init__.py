"""Benchmarks of AtlasQueue, alone and beside its peers. `python -m benchmarks --help`."""

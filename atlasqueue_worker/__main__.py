"""`python -m atlasqueue_worker`."""

from atlasqueue_worker.cli import main

main()

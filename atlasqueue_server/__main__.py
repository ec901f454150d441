"""`python -m atlasqueue_server`: the same as `atlasqueue-server`."""

from atlasqueue_server.cli import main

if __name__ == "__main__":
    main()

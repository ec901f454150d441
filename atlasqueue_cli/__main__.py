"""`python -m atlasqueue_cli`: the same as `atlasqueue`."""

from atlasqueue_cli.main import main

if __name__ == "__main__":
    main()

"""The documentation site: hooks of mkdocs, and the command that builds it."""

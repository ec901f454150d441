"""The fixtures' plugins, by theme."""

pytest_plugins = [
    "tests.plugins.postgres",
    "tests.plugins.allowed_skips",
    "tests.plugins.server",
    "tests.plugins.processes",
    "tests.plugins.signals",
]

"""The fixtures' plugins, by theme."""

pytest_plugins = [
    "pytester",
    "tests.plugins.postgres",
    "tests.plugins.allowed_skips",
    "tests.plugins.server",
    "tests.plugins.processes",
]

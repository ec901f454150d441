"""What the arena and the workers' side agree on."""

from __future__ import annotations

QUEUE = "chaos"
HANDLERS = "tests.chaos.handlers:app"
DIRECTORY_VARIABLE = "CHAOS_HISTORY"
WHO_VARIABLE = "CHAOS_WHO"

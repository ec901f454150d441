"""The leader-elected component: time-driven callers of the domain's verbs, one loop a file."""

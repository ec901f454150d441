"""Pure nouns: states, limits, retry arithmetic, errors. No clock, no I/O."""

"""A Python producer with Go workers."""

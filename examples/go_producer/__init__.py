"""A Go producer with Python workers."""

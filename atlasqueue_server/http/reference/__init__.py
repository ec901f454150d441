"""The readable page at /docs, written from the OpenAPI document; it loads nothing from outside."""

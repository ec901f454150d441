"""Python SDK of AtlasQueue."""

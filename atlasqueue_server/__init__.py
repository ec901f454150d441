"""The AtlasQueue server: floors http → rpc → domain → store → model, and scheduler → domain."""

__version__ = "0.1.0"

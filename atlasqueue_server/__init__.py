"""The AtlasQueue server: floors http → rpc → domain → store → model, and scheduler → domain."""

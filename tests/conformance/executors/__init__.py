"""Executors of SDKs, as processes."""

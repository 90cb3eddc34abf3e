"""The registry: what exists, where it came from, and which version is in production."""

"""The ``tuneloop`` command."""

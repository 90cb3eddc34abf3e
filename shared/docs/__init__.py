"""Generators of the pages in docs/ that say what the code already says."""

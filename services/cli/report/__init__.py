"""A rollout as a page to keep: its decisions in numbers, and its evidence as a picture. Pure: JSON in, HTML out."""

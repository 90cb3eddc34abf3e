"""Measures each new adapter on held-out rows, against its base and against production, and judges its gates."""

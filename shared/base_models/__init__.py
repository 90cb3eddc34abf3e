"""Base models that are made here, without a model hub: a tiny one for tests and fast demos, and SmolLM2.

Each builder writes an ordinary Hugging Face folder. They need torch and transformers
(`pip install tuneloop[training-job]`), which are imported when they are called.
"""

from collections.abc import Callable
from pathlib import Path

from shared.base_models import smollm2, tiny
from shared.base_models.smollm2 import build_smollm2
from shared.base_models.tiny import build_tiny

BUILDERS: dict[str, Callable[[Path], None]] = {tiny.NAME: build_tiny, smollm2.NAME: build_smollm2}
"""How to make each base model, by the name that pipelines use."""

__all__ = ["BUILDERS", "build_smollm2", "build_tiny"]

"""How much memory and time a fine-tuning run needs, and on what it fits.

`estimate` answers an `EstimateRequest` about a `ModelShape`; `memory` and `compute` are what it is made of. Nothing
here imports torch: everything follows from a model's ``config.json``.
"""

from shared.estimate.answer import estimate
from shared.estimate.compute import Work, flops_per_token, seconds
from shared.estimate.contract import EstimateAnswer, EstimateRequest, Hardware, Rows
from shared.estimate.gpus import GPUS, gpu_named, gpu_of_device
from shared.estimate.known import KNOWN, is_known, known_shape
from shared.estimate.memory import Memory, memory
from shared.estimate.recipes import NO_OTHERS, Others, setup_of
from shared.estimate.setup import HeldBy, Optimizer, Precision, Setup
from shared.estimate.shape import ModelShape, shape_of
from shared.estimate.utilization import mean_context, model_flops_per_token, model_flops_utilization
from shared.recipe import Method

__all__ = [
    "GPUS", "KNOWN", "NO_OTHERS", "EstimateAnswer", "EstimateRequest", "Hardware", "HeldBy", "Memory", "Method",
    "ModelShape", "Optimizer", "Others", "Precision", "Rows", "Setup", "Work", "estimate", "flops_per_token",
    "gpu_named", "gpu_of_device", "is_known", "known_shape", "mean_context", "memory", "model_flops_per_token",
    "model_flops_utilization", "seconds", "setup_of", "shape_of",
]

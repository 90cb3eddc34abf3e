"""Where a run's curves go beside its own record: TensorBoard files always, MLflow and Weights & Biases by a setting."""

from services.trainer.job.trackers.fan_out import Trackers, trackers_of
from services.trainer.job.trackers.model import End, Subject, Tracker

__all__ = ["End", "Subject", "Tracker", "Trackers", "trackers_of"]

"""Runs in MLflow: an experiment for each pipeline, a run for each run, whatever its attempts.

MLflow's own variables say where it is and who asks: ``MLFLOW_TRACKING_URI``, ``MLFLOW_TRACKING_TOKEN``.
"""

import os
from collections.abc import Mapping
from typing import Any

from services.trainer.job.rates import Sweep
from services.trainer.job.trackers.model import End, Subject

_TAG = "tuneloop.run"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_PARAMETERS_AT_ONCE = 100
_METRICS_AT_ONCE = 1000
_LONGEST_PARAMETER = 500
# MLflow waits minutes for a server that is away; a curve is not worth that.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


class Mlflow:
    """Through MLflow's client, of the package mlflow-skinny."""

    name = "mlflow"

    def __init__(self) -> None:
        self._client: Any = None
        self._run = ""

    def begin(self, subject: Subject, step: int) -> None:  # noqa: ARG002
        """Go on with the run of an earlier attempt, or make one."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(subject.pipeline)
        experiment = found.experiment_id if found else self._client.create_experiment(subject.pipeline)
        known = self._client.search_runs([experiment], filter_string=f"tags.`{_TAG}` = '{subject.run_id}'")
        if known:
            self._run = known[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            made = self._client.create_run(experiment, run_name=subject.run_id, tags={_TAG: subject.run_id})
            self._run = made.info.run_id
            self._log_parameters(subject.parameters)
        self._client.set_tag(self._run, "tuneloop.attempt", str(subject.attempt))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """The step's values in one request."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def sweep(self, sweep: Sweep) -> None:
        """Metrics by the test's own steps: ``range_test/loss``."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        made = [Metric(f"range_test/{name}", value, now, step) for step, name, value in sweep.curves()]
        for start in range(0, len(made), _METRICS_AT_ONCE):
            self._client.log_batch(self._run, metrics=made[start : start + _METRICS_AT_ONCE])

    def end(self, how: End) -> None:
        """End the run as it ended."""
        self._client.set_terminated(self._run, _STATUS[how])

    def _log_parameters(self, parameters: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        made = [Param(name, value[:_LONGEST_PARAMETER]) for name, value in parameters.items()]
        for start in range(0, len(made), _PARAMETERS_AT_ONCE):
            self._client.log_batch(self._run, params=made[start : start + _PARAMETERS_AT_ONCE])

"""The progress of the runs at work as metrics, read from the database at each scrape: no replica's are stale."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from services.trainer.files import Progress
from services.trainer.models import Run
from shared.db import reading

_FIGURES: dict[str, tuple[str, Callable[[Progress], float | None]]] = {
    "loss": ("Training loss of the newest step, in nats per trained token for supervised objectives.",
             lambda told: told.loss),
    "validation_loss": ("The newest validation loss, in the same unit.", lambda told: told.validation_loss),
    "tokens_per_second": ("Tokens without padding.", lambda told: told.tokens_per_second),
    "eta_seconds": ("Time that is left, at the mean speed so far.", lambda told: told.eta_seconds),
    "progress_ratio": ("Share of the steps that are done, from 0 to 1.",
                       lambda told: told.step / told.total_steps if told.total_steps else None),
}


class RunProgress(Collector):
    """``tuneloop_trainer_run_*`` for each run at work, by pipeline and run; gone when it has ended."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family for each figure; empty where the database is down, which must not hide other metrics."""
        try:
            with reading(self._engine) as session:
                rows = session.exec(select(Run.id, Run.pipeline, Run.progress).where(Run.state == "running")).all()
        except SQLAlchemyError:
            rows = []
        told = [(pipeline, run, Progress.model_validate(progress)) for run, pipeline, progress in rows if progress]
        for name, (meaning, figure) in _FIGURES.items():
            family = GaugeMetricFamily(f"tuneloop_trainer_run_{name}", meaning, labels=["pipeline", "run"])
            for pipeline, run, progress in told:
                value = figure(progress)
                if value is not None:
                    family.add_metric([pipeline, run], value)
            yield family

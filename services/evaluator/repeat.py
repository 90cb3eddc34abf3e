"""Measuring again what is in production: why, on which rows, and when. Database only; reconcile.py measures."""

from datetime import datetime
from typing import Literal

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from services.evaluator import decide
from services.evaluator.models import Evaluation, NewestDataset, PipelineRules, Production, Schedule
from shared.clock import Clock
from shared.db import transaction
from shared.events import ModelRef
from shared.leases import Lease, apply
from shared.telemetry import get_logger

log = get_logger(__name__)

ACTIVE, OFF = "active", "off"


def repeat(
    session: Session, pipeline: str, cause: Literal["schedule", "drift"], key: str, *, now: datetime,
    correlation_id: str | None = None, causation_id: str = "", traceparent: str | None = None,
) -> str | None:
    """Ask for a measurement of what is in production, on the held-out rows of the newest dataset version.

    Rows keep their split when a dataset grows, so production was never trained on any of them.

    Args:
        key: of what asks for it; asking twice makes one evaluation.

    Returns:
        the evaluation's id; None where nothing is in production, or nothing is known of how it was made.
    """
    production = session.get(Production, pipeline)
    if production is None or production.model is None:
        log.info("nothing is in production, so nothing is measured again", pipeline=pipeline, cause=cause)
        return None
    model = ModelRef.model_validate(production.model)
    first = _first(session, pipeline, model)
    rules = session.exec(
        select(PipelineRules).where(PipelineRules.pipeline == pipeline).order_by(col(PipelineRules.version).desc())
    ).first()
    if first is None or rules is None:
        log.warning("production cannot be measured again: its first evaluation is not known", model=model.model_version)
        return None
    evaluation_id = f"again-{model.model_version.replace('@', '-')}-{key}"
    if session.get(Evaluation, evaluation_id) is not None:
        return evaluation_id
    newest = session.get(NewestDataset, pipeline)
    dataset = newest.dataset if newest else model.dataset.model_dump(mode="json")
    session.add(Evaluation(
        id=evaluation_id, state="pending", cause=cause, model_version=model.model_version, run_id=first.run_id,
        pipeline=pipeline, pipeline_version=rules.version, run={**first.run, "dataset": dataset}, rules=rules.rules,
        # Compared with nothing: it is what is in production.
        frozen=True, production=None,
        correlation_id=correlation_id or evaluation_id, causation_id=causation_id, traceparent=traceparent,
        created_at=now,
    ))
    return evaluation_id


def _first(session: Session, pipeline: str, model: ModelRef) -> Evaluation | None:
    """The evaluation that let this adapter pass: it knows the base model's digest."""
    query = select(Evaluation).where(
        Evaluation.pipeline == pipeline, Evaluation.cause == "run", col(Evaluation.passed).is_(True)
    ).order_by(col(Evaluation.created_at).desc())
    return next(
        (row for row in session.exec(query) if row.run["adapter"]["digest"] == model.artifact.digest), None
    )


class Scheduler:
    """`reconcile` for the loop over schedules: acts on a tick once, whoever of several replicas sees it."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    def __call__(self, row: Schedule, lease: Lease) -> None:
        now = self._clock.now()
        tick = decide.missed_tick(row.cron, row.since, now)
        with transaction(self._engine) as session:
            held = apply(
                session, Schedule, lease, since=tick or row.since, next_look_at=decide.next_tick(row.cron, now)
            )
            if held and tick is not None:
                made = repeat(session, row.id, "schedule", tick.strftime("%Y%m%dt%H%M"), now=now)
                log.info("a scheduled evaluation is due", pipeline=row.id, tick=tick.isoformat(), evaluation=made)

"""Gives waiting runs their places in one transaction after another, so that trainers side by side give none twice."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlmodel import Session, col, select

from services.trainer.models import Run
from services.trainer.queue import Place, Waiting, next_up, why_waiting
from services.trainer.settings import TrainerSettings
from services.trainer.usage import hardware_of
from shared.leases import Lease, apply
from shared.recipe import TrainingRecipe

_LOCK = "trainer/queue"


def admit(session: Session, run: Run, lease: Lease, settings: TrainerSettings, now: datetime) -> bool:
    """Whether the run has a place from now on; where it has none it says what it waits for. In a transaction."""
    if run.admitted_at is not None:
        return True
    if session.get_bind().dialect.name == "postgresql":
        # On SQLite each transaction has the only write lock from its start.
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))").bindparams(name=_LOCK)
        session.connection().execute(lock)
    active = session.exec(
        select(Run).where(col(Run.state).in_(("pending", "running")), col(Run.cancelled_because).is_(None))
    ).all()
    held = [_place(row) for row in active if row.admitted_at is not None]
    waiting = [_waiting(row) for row in active if row.admitted_at is None]
    chosen = next_up(waiting, held, settings.places, now=now, aging=timedelta(seconds=settings.queue_aging_seconds))
    if run.id in chosen:
        return apply(session, Run, lease, admitted_at=now, waits_for=None)
    mine = _waiting(run)
    why = why_waiting(mine, waiting, held, settings.places(mine.hardware))
    if why != run.waits_for:
        apply(session, Run, lease, waits_for=why)
    return False


def _place(run: Run) -> Place:
    return Place(run.pipeline, hardware_of(TrainingRecipe.model_validate(run.recipe)))


def _waiting(run: Run) -> Waiting:
    recipe = TrainingRecipe.model_validate(run.recipe)
    return Waiting(run.pipeline, hardware_of(recipe), run.id, recipe.priority, run.queued_at or run.created_at)

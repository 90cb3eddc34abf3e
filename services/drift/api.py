"""The drift service's HTTP API: where each watched model version stands, and what was found."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlmodel import Session, col, select

from services.drift import window
from services.drift.models import AlarmRow, Pipeline, Series
from services.drift.samples import policy_of
from services.drift.settings import DriftSettings
from services.drift.window import SeriesState
from shared.db import reading
from shared.errors import NotFoundError
from shared.events import BucketShare, DriftDetected
from shared.service import Runtime

Limit = Annotated[int, Query(ge=1, le=500, description="at most this many items")]


class FeatureView(BaseModel):
    """A feature's last window.

    Attributes:
        statistic: PSI; MMD for embeddings.
        threshold: what 99 of 100 windows without drift stay below.
        evidence: of the detector; at `evidence_threshold` it raises an alarm.
        watched: whether the pipeline lets it raise one.
        windows: since the detector was last reset.
        largest: the buckets that changed most.
    """

    feature: str
    statistic: float
    threshold: float
    p_value: float
    evidence: float
    evidence_threshold: float
    watched: bool
    window_samples: int
    reference_samples: int
    windows: int
    largest: list[BucketShare]
    at: datetime


class AlarmView(BaseModel):
    """An alarm, with everything that it rested on."""

    id: str
    at: datetime
    fact: DriftDetected


class SeriesView(BaseModel):
    """A model version on its route.

    Attributes:
        windows: compared so far; `filled` of `window_samples` are counted for the next one.
        problem: why nothing can be compared.
    """

    route: str
    model_version: str
    action: str
    windows: int
    samples: int
    filled: int
    window_samples: int
    average_run: int
    problem: str
    features: list[FeatureView]
    last_alarm: AlarmView | None
    updated_at: datetime


class SeriesPage(BaseModel):
    """Watched model versions, the last sampled first."""

    items: list[SeriesView]


class AlarmPage(BaseModel):
    """Alarms, newest first."""

    items: list[AlarmView]


def build_router(runtime: Runtime[DriftSettings]) -> APIRouter:
    """The routes, over the runtime's database."""
    router = APIRouter(prefix="/v1/drift", tags=["drift"])

    @router.get("")
    def list_series(limit: Limit = 50) -> SeriesPage:
        """Watched model versions of all routes, the last sampled first."""
        query = select(Series).order_by(col(Series.updated_at).desc(), col(Series.id).desc()).limit(limit)
        with reading(runtime.engine) as session:
            return SeriesPage(items=[_view(session, row) for row in session.exec(query)])

    @router.get("/{route}")
    def get_route(route: str, limit: Limit = 5) -> SeriesPage:
        """A route's model versions, the last sampled first."""
        query = select(Series).where(Series.route == route).order_by(col(Series.updated_at).desc()).limit(limit)
        with reading(runtime.engine) as session:
            _check_route(session, route)
            return SeriesPage(items=[_view(session, row) for row in session.exec(query)])

    @router.get("/{route}/alarms")
    def list_alarms(route: str, limit: Limit = 50) -> AlarmPage:
        """A route's alarms, newest first, each with the evidence that it rested on."""
        query = select(AlarmRow).where(AlarmRow.route == route).order_by(col(AlarmRow.at).desc()).limit(limit)
        with reading(runtime.engine) as session:
            _check_route(session, route)
            return AlarmPage(items=[_alarm(row) for row in session.exec(query)])

    return router


def _check_route(session: Session, route: str) -> None:
    if session.exec(select(Pipeline).where(Pipeline.route == route)).first() is None:
        raise NotFoundError(f"there is no route {route!r}; `tuneloop pipelines list` shows those that exist")


def _view(session: Session, row: Series) -> SeriesView:
    state, policy = SeriesState.model_validate(row.data), policy_of(session, row.route)
    watched, bound = window.watched(state, policy), window.alarm_threshold(state, policy)
    last = session.exec(
        select(AlarmRow).where(AlarmRow.model_version == row.id).order_by(col(AlarmRow.at).desc()).limit(1)
    ).first()
    return SeriesView(
        route=row.route, model_version=row.id, action=policy.action, windows=state.windows, samples=state.samples,
        filled=state.window.samples, window_samples=policy.window_samples, average_run=policy.average_run,
        problem=row.problem, last_alarm=_alarm(last) if last else None, updated_at=row.updated_at,
        features=[
            FeatureView(feature=name, watched=name in watched, evidence_threshold=bound, **feature.model_dump())
            for name, feature in state.features.items()
        ],
    )


def _alarm(row: AlarmRow) -> AlarmView:
    return AlarmView(id=row.id, at=row.at, fact=DriftDetected.model_validate(row.fact))

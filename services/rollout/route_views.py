"""What the API answers with about routes."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel
from sqlmodel import Session, col, select

from services.rollout.models import Rewrite, Route
from services.rollout.routes import targets_of
from shared.events import RouteTarget


class RewriteView(BaseModel):
    """The route's InferenceModelRewrite, where llm-d splits the traffic.

    Attributes:
        revision: of the route, the one that the cluster has; -1 before the first.
        changed_at: when it last took other targets or weights.
        problem: why it has not the route's newest revision; empty where it has, or soon will.
    """

    revision: int
    changed_at: datetime | None
    problem: str


class RouteView(BaseModel):
    """A route as the gateways are told."""

    route: str
    pipeline: str
    revision: int
    base_model: str
    base_model_digest: str
    salt: str
    rollout: str | None
    targets: list[RouteTarget]
    updated_at: datetime
    rewrite: RewriteView | None


def route_views(session: Session, rows: Sequence[Route]) -> list[RouteView]:
    """The routes of some rows."""
    ids = [row.id for row in rows]
    rewrites = {found.id: found for found in session.exec(select(Rewrite).where(col(Rewrite.id).in_(ids)))}
    return [_route_view(row, rewrites.get(row.id)) for row in rows]


def _route_view(row: Route, rewrite: Rewrite | None) -> RouteView:
    return RouteView(
        route=row.id, pipeline=row.pipeline, revision=row.revision, base_model=row.base_model,
        base_model_digest=row.base_model_digest, salt=row.salt, rollout=row.rollout_id, targets=targets_of(row),
        updated_at=row.updated_at,
        rewrite=RewriteView.model_validate(rewrite.model_dump()) if rewrite else None,
    )

"""The controller's HTTP API. It reads rows and leaves commands; only the owner of a rollout's lease acts on them."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, col, select

from services.rollout import again
from services.rollout.models import CommandRow, Decision, Rollout, Route
from services.rollout.observation import Verb
from services.rollout.route_views import RouteView, route_views
from services.rollout.settings import RolloutSettings
from services.rollout.state import TERMINAL
from services.rollout.views import DecisionView, Page, RolloutView, decision_view, rollout_view, rollout_views
from shared.db import reading, transaction
from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.leases import interrupt
from shared.service import Runtime

Limit = Annotated[int, Query(ge=1, le=1000, description="at most this many items")]

# In these phases a verb makes sense. The controller decides; this only spares people a wait for a refusal.
_ALLOWED: dict[Verb, frozenset[str]] = {
    "pause": frozenset({"staging", "progressing"}),
    "resume": frozenset({"paused"}),
    "promote": frozenset({"staging", "progressing", "paused"}),
    "abort": frozenset({"staging", "progressing", "paused", "promoting"}),
}


class CommandBody(BaseModel):
    """Who asks, and why; both are kept with the decision. Nobody checks the name."""

    reason: str = Field(default="", max_length=2000)
    by: str = Field(default="", max_length=200)


class VerbBody(CommandBody):
    """`full` is for promote: all the way at once, not to the next step."""

    full: bool = False


class UndoBody(CommandBody):
    """`to` is the model version to go back to; the one before the present by default."""

    to: str | None = None


def build_router(runtime: Runtime[RolloutSettings]) -> APIRouter:
    """The routes, over the runtime's database."""
    router = APIRouter(prefix="/v1")
    _rollouts(router, runtime)
    _again(router, runtime)
    _commands(router, runtime)
    _routes(router, runtime)
    return router


def _rollouts(router: APIRouter, runtime: Runtime[RolloutSettings]) -> None:
    @router.get("/rollouts", tags=["rollouts"])
    def list_rollouts(pipeline: str | None = None, route: str | None = None, limit: Limit = 50) -> Page[RolloutView]:
        """Rollouts, newest first."""
        query = select(Rollout).order_by(col(Rollout.created_at).desc(), col(Rollout.number).desc()).limit(limit)
        if pipeline is not None:
            query = query.where(Rollout.pipeline == pipeline)
        if route is not None:
            query = query.where(Rollout.route == route)
        with reading(runtime.engine) as session:
            return Page(items=rollout_views(session, session.exec(query).all(), runtime.clock.now()))

    @router.get("/rollouts/{rollout_id}", tags=["rollouts"])
    def get_rollout(rollout_id: str) -> RolloutView:
        with reading(runtime.engine) as session:
            return rollout_view(session, _find(session, rollout_id), runtime.clock.now())

    @router.get("/rollouts/{rollout_id}/decisions", tags=["rollouts"])
    def list_decisions(
        rollout_id: str, limit: Limit = 200,
        before: Annotated[int | None, Query(description="only older ones than the decision with this id")] = None,
    ) -> Page[DecisionView]:
        """Decisions, newest first, each with the evidence that it rested on."""
        with reading(runtime.engine) as session:
            row = _find(session, rollout_id)
            query = select(Decision).where(Decision.rollout_id == row.id).order_by(col(Decision.id).desc())
            if before is not None:
                query = query.where(col(Decision.id) < before)
            return Page(items=[decision_view(item) for item in session.exec(query.limit(limit))])


def _commands(router: APIRouter, runtime: Runtime[RolloutSettings]) -> None:
    @router.post("/rollouts/{rollout_id}/{verb}", tags=["rollouts"], status_code=202)
    def post_command(rollout_id: str, verb: Verb, body: VerbBody | None = None) -> RolloutView:
        """Ask for a pause, resume, promotion or abort; the controller acts on it at once.

        The answer is the rollout as it is now, before that.
        """
        with transaction(runtime.engine) as session:
            row = _find(session, rollout_id)
            if row.state not in _ALLOWED[verb]:
                why = "it has ended" if row.state in TERMINAL else f"it is {row.state}"
                raise ConflictError(f"rollout {row.id}: cannot {verb}: {why} ({row.state})")
            asked = body or VerbBody()
            if asked.full and verb != "promote":
                raise InvalidInputError(f"rollout {row.id}: only a promotion can be full, not {verb}")
            session.add(CommandRow(
                rollout_id=row.id, verb=verb, full=asked.full, reason=asked.reason, by=asked.by,
                asked_at=runtime.clock.now(),
            ))
            interrupt(session, Rollout, row.id)
            return rollout_view(session, row, runtime.clock.now())


def _again(router: APIRouter, runtime: Runtime[RolloutSettings]) -> None:
    @router.post("/rollouts/{rollout_id}/retry", tags=["rollouts"], status_code=201)
    def post_retry(rollout_id: str, body: CommandBody | None = None) -> RolloutView:
        """Try a version again whose rollout ended without a promotion; the answer is the new rollout."""
        asked, now = body or CommandBody(), runtime.clock.now()
        with transaction(runtime.engine) as session:
            row = again.retry(session, rollout_id, by=asked.by, reason=asked.reason, now=now)
            return rollout_view(session, row, now)

    @router.post("/routes/{route}/undo", tags=["routes"], status_code=201)
    def post_undo(route: str, body: UndoBody | None = None) -> RolloutView:
        """Take a route back to an earlier stable version; the answer is the rollout that does it."""
        asked, now = body or UndoBody(), runtime.clock.now()
        with transaction(runtime.engine) as session:
            row = again.undo(session, route, to=asked.to, by=asked.by, reason=asked.reason, now=now)
            return rollout_view(session, row, now)


def _routes(router: APIRouter, runtime: Runtime[RolloutSettings]) -> None:
    @router.get("/routes", tags=["routes"])
    def list_routes(limit: Limit = 50) -> Page[RouteView]:
        """Routes, the last changed first."""
        query = select(Route).order_by(col(Route.updated_at).desc(), col(Route.id)).limit(limit)
        with reading(runtime.engine) as session:
            return Page(items=route_views(session, session.exec(query).all()))

    @router.get("/routes/{route}", tags=["routes"])
    def get_route(route: str) -> RouteView:
        with reading(runtime.engine) as session:
            row = session.get(Route, route)
            if row is None:
                raise NotFoundError(f"no route {route}")
            return route_views(session, [row])[0]


def _find(session: Session, rollout_id: str) -> Rollout:
    row = session.get(Rollout, rollout_id)
    if row is None:
        raise NotFoundError(f"no rollout {rollout_id}")
    return row

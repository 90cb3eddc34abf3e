"""The one fact that the agent acts on: which adapters the routes name now."""

from sqlmodel import col, select

from services.serving.decide import when_named
from services.serving.models import AdapterRow, Route
from shared.events import Event, RouteUpdated
from shared.messaging import HandlerContext, Handlers

handlers = Handlers("serving")
on = handlers.on


@on(RouteUpdated)
def route_updated(ctx: HandlerContext, event: Event[RouteUpdated]) -> None:
    """Remember the route; the highest revision wins, in whatever order they arrive."""
    data = event.data
    known = ctx.session.get(Route, data.route)
    if known is not None and known.revision >= data.revision:
        return
    ctx.session.merge(Route(
        route=data.route, revision=data.revision, base_model=data.base_model,
        targets=[target.model_dump(mode="json") for target in data.targets],
        event_id=event.id, correlation_id=event.correlation_id,
    ))
    named = [target.model_version for target in data.targets if target.model_version is not None]
    for row in ctx.session.exec(select(AdapterRow).where(col(AdapterRow.model_version).in_(named))):
        state = when_named(row.state)  # type: ignore[arg-type]  # written by this service alone
        if state != row.state:
            row.state, row.due_at = state, None

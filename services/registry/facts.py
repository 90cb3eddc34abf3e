"""Rows that are built from other services' facts, whatever the order in which these arrive."""

from typing import Any, TypeVar

from services.registry.decide import Position, merge, position
from services.registry.models import FactRow
from shared.messaging import HandlerContext

R = TypeVar("R", bound=FactRow)


def record(
    ctx: HandlerContext, model: type[R], pipeline: str, state: str, *, may_go_on: bool = False, **known: Any
) -> R:
    """Let the event of `ctx` into its aggregate's row, and make the row where there is none.

    Args:
        state: of the aggregate after this fact.
        may_go_on: an end may be followed by more. Only where a single source tells all facts of an aggregate, whose
            sequence then says it all.
        known: other columns; None means that the fact does not say.
    """
    event = ctx.event
    row = ctx.session.get(model, event.subject, with_for_update=True)
    if row is None:
        row = model(
            id=event.subject, pipeline=pipeline, state=state, sequence=event.sequence,
            correlation_id=event.correlation_id, created_at=event.time, updated_at=event.time, **known,
        )
        ctx.session.add(row)
        ctx.session.flush()
        return row
    at, incoming = (
        Position(False, number) if may_go_on else position(word, number)
        for word, number in ((row.state, row.sequence), (state, event.sequence))
    )
    for column, value in merge(row.model_dump(), at, {**known, "state": state}, incoming).items():
        setattr(row, column, value)
    if incoming >= at:
        row.sequence, row.updated_at = event.sequence, event.time
    ctx.session.flush()
    return row

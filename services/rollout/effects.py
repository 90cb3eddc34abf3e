"""Carries out what decide.py wants, as rows and outbox rows in the caller's transaction. No I/O but the database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, col, select

from services.rollout import met_units, routes
from services.rollout.evidence import summary
from services.rollout.hook_state import Ask
from services.rollout.models import CommandRow, Decision, Rollout, Route, Withdrawal
from services.rollout.notices import Subject
from services.rollout.outgoing import Outgoing
from services.rollout.state import RolloutState
from services.rollout.wanted import Announce, Answer, Effect, LeaveRoute, MakeStable, Record, Shift, TakeRoute
from shared.clock import Clock
from shared.events import Event, ModelRef, Payload, RolloutProgressed, RolloutPromoted, RolloutRolledBack
from shared.messaging import emit
from shared.pipeline import RolloutPolicy
from shared.webhooks import Notification

# From the best to the worst; the worst guardrail's verdict is the rollout's.
_VERDICTS = ("safe", "undecided", "no_data", "harmful")
# Nearly every look stores one. Nobody needs the row as an object, nor its id.
_DECISION = insert(Decision.metadata.tables["decisions"]).inline()


@dataclass
class Effects:
    """One transaction's effects of one rollout.

    Attributes:
        rollout: the row as it was claimed.
        before: its state then.
        after: its state now.
        stable: the version that the candidate is compared with; None for the bare base model.
        notifications: of pipelines that say nothing of them.
        previous: the stable version that the candidate replaces, once it does.
        recorded: decisions to be stored with `store_decisions`.
        sampled_at: when the newest sample was scraped that the conclusions rest on, where a guardrail fired.
    """

    session: Session
    clock: Clock
    rollout: Rollout
    policy: RolloutPolicy
    before: RolloutState
    after: RolloutState
    now: datetime
    stable: str | None
    notifications: Sequence[Notification] = ()
    previous: str | None = None
    recorded: list[Record] = field(default_factory=list)
    sampled_at: datetime | None = None

    def carry_out(self, effects: list[Effect]) -> None:
        """All of them, in order. The route's row is locked for those that change it."""
        for effect in effects:
            match effect:
                case TakeRoute() | Shift() | MakeStable() | LeaveRoute():
                    self._change_route(routes.lock(self.session, self.rollout.route), effect)
                case Announce():
                    self._outgoing.tell(self._emit(self._announcement()), self.before, self._subject)
                case Ask():
                    self._outgoing.ask(effect, self._subject)
                case Record():
                    self._record(effect)
                case Answer():
                    self._answer(effect)

    @property
    def _outgoing(self) -> Outgoing:
        return Outgoing(self.session, self.notifications, self.now)

    @property
    def _subject(self) -> Subject:
        return Subject(self.rollout, self.after, self.policy, self.stable)

    def _change_route(self, route: Route, effect: TakeRoute | Shift | MakeStable | LeaveRoute) -> None:
        if route.stable and isinstance(effect, MakeStable):
            self.previous = ModelRef.model_validate(route.stable).model_version
        if not isinstance(effect, Shift) and route.rollout_id in (None, self.rollout.id):
            met_units.forget(self.session, route.id)
        match effect:
            case TakeRoute():
                routes.take(route, self.rollout, effect, self.now, self._emit)
            case Shift():
                routes.shift(route, self.rollout, effect, self.now, self._emit)
                if self.before.weight > 0 and effect.weight == 0:
                    self.session.add(Withdrawal(
                        id=self.rollout.id, state="waiting", route=route.id, revision=route.revision,
                        guardrail=self.after.fired, sampled_at=self.sampled_at, decided_at=self.now,
                    ))
            case MakeStable():
                routes.make_stable(route, self.rollout, self.now, self._emit)
            case LeaveRoute():
                routes.leave(route, self.rollout, self.now, self._emit)

    def _announcement(self) -> Payload:
        state, row = self.after, self.rollout
        evidence = _flat(summary(state, self.policy), state.fired)
        about: dict[str, Any] = {
            "rollout_id": row.id, "pipeline": row.pipeline, "route": row.route,
            "model_version": row.model_version, "attempt": row.attempt,
        }
        if state.phase == "promoted":
            return RolloutPromoted(**about, previous=self.previous, reason=state.reason, evidence=evidence)
        if state.phase == "rolled_back":
            return RolloutRolledBack(
                **about, reason=state.reason, guardrail=state.fired, evidence=evidence,
                seconds_exposed=state.seconds_exposed, users_exposed=state.users,
            )
        return RolloutProgressed(
            **about, phase=state.phase, step=state.step, weight=state.weight, reason=state.reason
        )

    def _record(self, effect: Record) -> None:
        if effect.action != "hold" or self._is_news(effect):
            self.recorded.append(effect)

    def decisions(self) -> list[dict[str, Any]]:
        """The rows of what was recorded."""
        state = self.after
        return [
            {
                "rollout_id": self.rollout.id, "at": self.now, "action": made.action, "rule": made.rule,
                "reason": made.reason, "by": made.by,
                "verdict": max((mine.verdict for mine in state.guardrails.values()), key=_VERDICTS.index),
                "step": state.step, "weight": state.weight, "evidence": summary(state, self.policy),
            }
            for made in self.recorded
        ]

    def _is_news(self, effect: Record) -> bool:
        """Holding for the same reason while nothing was counted is said once, not at every look."""
        if any(mine.evidence != self.before.guardrails[name].evidence for name, mine in self.after.guardrails.items()):
            return True
        last = self.recorded[-1] if self.recorded else self.session.exec(
            select(Decision).where(Decision.rollout_id == self.rollout.id).order_by(col(Decision.id).desc()).limit(1)
        ).first()
        return last is None or (last.action, last.rule) != (effect.action, effect.rule)

    def _answer(self, effect: Answer) -> None:
        row = self.session.get(CommandRow, effect.command)
        if row is None:
            return
        row.answered_at, row.refused = self.now, effect.refused
        if effect.refused:
            self._record(Record("refuse", "person", f"{row.verb}: {effect.refused}", row.by))

    def _emit(self, payload: Payload) -> Event[Payload]:
        return emit(
            self.session, payload, source="rollout", clock=self.clock, correlation_id=self.rollout.correlation_id,
            causation_id=self.rollout.causation_id,
        )


def store_decisions(session: Session, effects: Sequence[Effects]) -> None:
    """The decisions of some looks, in the transaction of their effects."""
    if rows := [row for each in effects for row in each.decisions()]:
        session.connection().execute(_DECISION, rows)


def _flat(guardrails: dict[str, dict[str, float | str]], only: str) -> dict[str, float]:
    """The numbers of one guardrail, or those of all with the guardrail's name before each."""
    if only:
        return {key: value for key, value in guardrails[only].items() if not isinstance(value, str)}
    return {
        f"{name}.{key}": value
        for name, numbers in guardrails.items() for key, value in numbers.items() if not isinstance(value, str)
    }

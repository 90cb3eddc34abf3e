"""What the API answers with about rollouts and their decisions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import BaseModel
from sqlmodel import Session, col, select

from services.rollout.analysis import Counts
from services.rollout.comparison_views import (
    AbTestView,
    LatencyView,
    ObjectiveView,
    ab_test_view,
    latency_view,
    objective_views,
)
from services.rollout.evidence import controlled, harm_threshold, safe_threshold
from services.rollout.hook_views import WebhookView, webhook_views
from services.rollout.models import Decision, Rollout, Withdrawal
from services.rollout.state import TERMINAL, RolloutState, Verdict
from shared.events import Phase
from shared.pipeline import RolloutPolicy
from shared.served_names import BASE, control_of

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A list answer, newest first."""

    items: list[T]


class GuardrailView(BaseModel):
    """One guardrail: rollback when `e_harm` reaches its threshold, safe while `e_safe` is at or above its own.

    `stable` are the counts that the candidate is compared with: the control's where there is one.
    """

    metric: str
    stable: Counts
    candidate: Counts
    e_harm: float
    harm_threshold: float
    e_safe: float
    safe_threshold: float
    verdict: Verdict
    no_data: str | None


class WithdrawalView(BaseModel):
    """How the candidate's weight was taken away.

    Attributes:
        state: ``waiting`` for gateways, ``confirmed`` by all, or ``unconfirmed`` when that was given up.
        revision: of the route, the first one without the weight.
        sampled_at: when the sample was scraped that proved harm; None where no guardrail fired.
        confirmed_at: from when on no gateway gave the candidate anything.
        seconds: from that sample until then; from the decision where no guardrail fired. None while not confirmed.
        waiting: why it is not confirmed.
    """

    state: str
    revision: int
    sampled_at: datetime | None
    decided_at: datetime
    confirmed_at: datetime | None
    gateways: int
    seconds: float | None
    waiting: str


class RolloutView(BaseModel):
    """A rollout as people and tools see it.

    Attributes:
        step: the current step, counted from 1; 0 before the candidate has traffic.
        steps: how many there are.
        weight: basis points.
        control: what the candidate is compared with, by its served name; None where that is all of stable.
        control_weight: basis points.
        shadow: the share of requests that are copied to the candidate, basis points.
        since: when the phase began.
        outcome: how it ended; None while it has not.
        guardrail: the one that fired.
        seconds_exposed: how long the candidate has had traffic, until now or until it was taken away.
        latency: None where the policy neither guards nor compares anything by it, or no answer was seen.
        withdrawal: how its weight was taken away; None where it had none, or has it still.
        webhooks: what came of those that were called, and of notifications.
    """

    id: str
    pipeline: str
    route: str
    model_version: str
    attempt: int
    stable: str | None
    control: str | None
    phase: Phase
    step: int
    steps: int
    weight: int
    control_weight: int
    shadow: int
    reason: str
    since: datetime
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    deadline_at: datetime | None
    guardrails: list[GuardrailView]
    ab_test: AbTestView | None
    objectives: list[ObjectiveView]
    latency: LatencyView | None
    outcome: Phase | None
    guardrail: str | None
    users_exposed: int | None
    seconds_exposed: float | None
    withdrawal: WithdrawalView | None
    webhooks: list[WebhookView]


class DecisionView(BaseModel):
    """One decision; `evidence` holds per guardrail the counts, e-values and thresholds that it rested on.

    The `id` grows with each decision of a rollout.
    """

    id: int
    at: datetime
    verdict: Verdict
    action: str
    rule: str
    reason: str
    by: str
    step: int
    weight: int
    evidence: dict[str, dict[str, float | str]]


def rollout_views(session: Session, rows: Sequence[Rollout], now: datetime) -> list[RolloutView]:
    """The rollouts of some rows, with what else is known of them."""
    ids = [row.id for row in rows]
    taken = {found.id: found for found in session.exec(select(Withdrawal).where(col(Withdrawal.id).in_(ids)))}
    known = {
        row.id: (RolloutState.model_validate(row.data), RolloutPolicy.model_validate(row.policy)) for row in rows
    }
    called = webhook_views(session, known)
    return [
        _rollout_view(row, *known[row.id], withdrawal=taken.get(row.id), webhooks=called[row.id], now=now)
        for row in rows
    ]


def rollout_view(session: Session, row: Rollout, now: datetime) -> RolloutView:
    return rollout_views(session, [row], now)[0]


def _rollout_view(
    row: Rollout, state: RolloutState, policy: RolloutPolicy, *, withdrawal: Withdrawal | None,
    webhooks: list[WebhookView], now: datetime,
) -> RolloutView:
    until = state.exposed_until or row.finished_at or now
    return RolloutView(
        id=row.id, pipeline=row.pipeline, route=row.route, model_version=row.model_version,
        attempt=row.attempt, stable=row.stable,
        control=control_of(row.stable or BASE) if controlled(state, policy) else None,
        phase=state.phase, step=state.step, steps=len(policy.stages), weight=state.weight, control_weight=state.control,
        shadow=state.shadow,
        reason=state.reason, since=state.since,
        created_at=row.created_at, started_at=state.started_at, updated_at=row.updated_at,
        finished_at=row.finished_at, deadline_at=state.deadline_at, guardrails=_guardrails(state, policy),
        ab_test=ab_test_view(state, policy), objectives=objective_views(state, policy),
        latency=latency_view(state, policy),
        outcome=state.phase if state.phase in TERMINAL else None, guardrail=state.fired or None,
        users_exposed=state.users,
        seconds_exposed=(until - state.exposed_from).total_seconds() if state.exposed_from else None,
        withdrawal=withdrawal_view(withdrawal) if withdrawal else None, webhooks=webhooks,
    )


def withdrawal_view(row: Withdrawal) -> WithdrawalView:
    begun = row.sampled_at or row.decided_at
    return WithdrawalView(
        **row.model_dump(include=WithdrawalView.model_fields.keys() - {"seconds"}),
        seconds=(row.confirmed_at - begun).total_seconds() if row.confirmed_at else None,
    )


def _guardrails(state: RolloutState, policy: RolloutPolicy) -> list[GuardrailView]:
    return [
        GuardrailView(
            metric=name, stable=mine.evidence.stable, candidate=mine.evidence.candidate,
            e_harm=mine.evidence.e_harm, harm_threshold=harm_threshold(policy),
            e_safe=mine.evidence.e_safe, safe_threshold=safe_threshold(policy),
            verdict=mine.verdict, no_data=state.blind.get(name),
        )
        for name, mine in state.guardrails.items()
    ]


def decision_view(row: Decision) -> DecisionView:
    return DecisionView.model_validate(row.model_dump())

"""Prometheus metrics of the controller itself: where each rollout stands, and how near to a threshold."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from services.rollout.abtest import effect
from services.rollout.analysis import Interval
from services.rollout.evidence import harm_threshold, safe_threshold
from services.rollout.models import Rollout, WebhookCall
from services.rollout.state import TERMINAL, RolloutState
from services.rollout.wanted import Record
from shared.events import Phase
from shared.pipeline import RolloutPolicy

WEIGHT = Gauge("tuneloop_rollout_weight", "The candidate's share of the route, basis points", ["route"])
PHASE = Gauge("tuneloop_rollout_phase", "1 for the phase that the route's newest rollout is in", ["route", "phase"])
E_VALUE = Gauge("tuneloop_rollout_e_value", "Evidence for harm, and for safety", ["route", "guardrail", "kind"])
THRESHOLD = Gauge("tuneloop_rollout_threshold", "The e-value that decides", ["route", "guardrail", "kind"])
AB_EFFECT = Gauge("tuneloop_rollout_ab_effect", "By how much an A/B test's candidate is better", ["route", "bound"])
OBJECTIVE_EFFECT = Gauge(
    "tuneloop_rollout_objective_effect", "By how much the candidate is better at an objective",
    ["route", "objective", "bound"],
)
TICK_CPU = Gauge(
    "tuneloop_rollout_tick_cpu_seconds", "CPU time of the last look at each rollout in flight, summed"
)
WITHDRAWAL = Histogram(
    "tuneloop_rollout_withdrawal_seconds",
    "Until all gateways had taken a candidate's weight away: since the sample that proved harm, and since the decision",
    ["since"], buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300, 600),
)
WITHDRAWALS = Counter(
    "tuneloop_rollout_withdrawals", "Weights taken away, confirmed by all gateways, or given up on", ["state"]
)
for _state in ("confirmed", "unconfirmed"):
    WITHDRAWALS.labels(_state)  # at 0 from the start, so that the first one is an increase
REWRITE_REVISION = Gauge(
    "tuneloop_rollout_rewrite_revision", "Revision of the route that its InferenceModelRewrite has", ["route"]
)
REWRITE_REPAIRS = Counter(
    "tuneloop_rollout_rewrite_repairs", "InferenceModelRewrites that somebody else had changed", ["route"]
)
for _since in ("sample", "decision"):
    WITHDRAWAL.labels(_since)
FORGET = timedelta(minutes=5)
WEBHOOK_CALLS = Counter(
    "tuneloop_rollout_webhook_calls", "Attempts to call webhooks and notifications: ok, refused, retried or failed",
    ["webhook", "type", "outcome"],
)
DECISIONS = Counter("tuneloop_rollout_decisions", "Stored decisions", ["route", "action", "rule"])
DECIDED_AT = Gauge(
    "tuneloop_rollout_decided_timestamp_seconds", "When the last such decision was stored, Unix time",
    ["route", "action", "rule"],
)
DURATION = Histogram(
    "tuneloop_rollout_duration_seconds", "From taking the route to the end of a rollout", ["route", "outcome"],
    buckets=(30, 60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 86_400, 2 * 86_400, 7 * 86_400),
)


def publish(row: Rollout, state: RolloutState, policy: RolloutPolicy, now: datetime) -> None:
    """Show a rollout's state, once per look.

    One that waits for its route shows nothing: the gauges are those of who holds it.
    """
    if state.started_at is None:
        return
    _gauge(WEIGHT, row.route).set(state.weight)
    for outcome in TERMINAL:
        ended = DURATION.labels(row.route, outcome)
        if outcome == state.phase:
            ended.observe((now - state.started_at).total_seconds())
    for phase in get_args(Phase):
        _gauge(PHASE, row.route, phase).set(int(phase == state.phase))
    for name, guardrail in state.guardrails.items():
        _gauge(E_VALUE, row.route, name, "harm").set(guardrail.evidence.e_harm)
        _gauge(E_VALUE, row.route, name, "safe").set(guardrail.evidence.e_safe)
        _gauge(THRESHOLD, row.route, name, "harm").set(harm_threshold(policy))
        _gauge(THRESHOLD, row.route, name, "safe").set(safe_threshold(policy))
    if policy.ab_test is not None and state.ab_test is not None:
        for bound, value in _bounds(effect(state.ab_test, policy.ab_test, policy.alpha)):
            _gauge(AB_EFFECT, row.route, bound).set(value)
    for objective in policy.objectives:
        for bound, value in _bounds(effect(state.objectives[objective.called], objective, policy.alpha)):
            _gauge(OBJECTIVE_EFFECT, row.route, objective.called, bound).set(value)


@lru_cache(maxsize=16_384)
def _gauge(of: Gauge, *labels: str) -> Gauge:
    """One series, found once and not at every look."""
    return of.labels(*labels)


def _bounds(found: Interval) -> Sequence[tuple[str, float]]:
    return ("low", found.low), ("high", found.high), ("estimate", found.estimate or 0.0)


class TickCpu:
    """What one look at each rollout costs, which is what a controller must afford in each interval.

    Looks that are long ago do not count: their rollouts have ended, or another controller has them.
    """

    def __init__(self) -> None:
        self._looks: dict[str, tuple[datetime, float]] = {}
        self._prepared = 0.0

    def prepared(self, rollouts: int, seconds: float, now: datetime) -> None:
        """What was read for several looks is shared by them."""
        self._prepared = seconds / rollouts
        self._looks = {row: look for row, look in self._looks.items() if now - look[0] < FORGET}

    def looked(self, rollout: str, seconds: float, now: datetime) -> None:
        self._looks[rollout] = now, seconds + self._prepared
        self._show()

    def stored(self, rollouts: Sequence[str], seconds: float) -> None:
        """What was stored for several looks is shared by them."""
        for rollout in rollouts:
            at, spent = self._looks[rollout]
            self._looks[rollout] = at, spent + seconds / len(rollouts)
        self._show()

    def _show(self) -> None:
        TICK_CPU.set(sum(cpu for _, cpu in self._looks.values()))


def decided(row: Rollout, record: Record, now: datetime) -> None:
    """Count a stored decision."""
    DECISIONS.labels(row.route, record.action, record.rule).inc()
    DECIDED_AT.labels(row.route, record.action, record.rule).set(now.timestamp())


def called(row: WebhookCall, outcome: str) -> None:
    """Count an attempt of a call."""
    WEBHOOK_CALLS.labels(row.webhook, row.type, outcome).inc()

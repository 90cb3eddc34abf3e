"""Two answers to one request, stable's to the client and a candidate's to the copy: in what is only one of them bad?

A pair is judged by what single answers are judged by:

    errors          it failed, or was not whole within the time that a copy has; whichever of the two it was
    refusals        it refuses; where both are whole
    invalid_output  it is not the JSON that was asked for; where both are whole and were asked for some

An answer that no model gave (nobody took the connection, or had the adapter loaded) is no pair: it says nothing of a
version. Durations are not compared, because the two were not asked alike: the copy comes second and to a colder cache,
and nobody reads it slowly.
"""

from collections.abc import Callable
from functools import partial

from services.gateway.answers import Structured, refuses, wants_structure
from services.gateway.checker import StructureChecker
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Target
from services.gateway.record import Record
from services.gateway.shadow_metrics import ShadowOutcome
from shared.gateway_metrics import PairResult, pair_event

# Codes of errors that are not of a model's making.
UNANSWERED = frozenset({"upstream_unreachable", "no_replica", "model_not_loaded", "shutting_down"})


def compared(*, primary: bool, copy: bool) -> PairResult:
    """Which of two answers is the bad one, if one of them is."""
    if primary == copy:
        return "alike"
    return "copy_worse" if copy else "primary_worse"


def copied(record: Record) -> bool:
    """Whether a request is worth a copy: a model answered it, well or badly, and it was not the client's fault."""
    return record.outcome != "rejected" and record.error not in UNANSWERED


class Pairs:
    """Counts pairs, and tells of each user's first whose answers differ. On the event loop.

    Args:
        soon: has something called on the event loop, from any thread.
        seconds: in which both answers must be whole.
    """

    def __init__(
        self, metrics: GatewayMetrics, checker: StructureChecker, soon: Callable[[Callable[[], None]], None],
        *, seconds: float,
    ) -> None:
        self._metrics = metrics
        self._checker = checker
        self._soon = soon
        self._seconds = seconds

    def judge(
        self, record: Record, target: Target, begun: float, outcome: ShadowOutcome, response: bytes | None
    ) -> None:
        """A copy has been answered, or has not in time.

        Args:
            target: of the copy.
            begun: when the primary's exchange began, on the clock of `UnitEvents`.
            response: the whole answer to the copy; None where it was too long to be kept.
        """
        if outcome in ("dropped", "unclear"):
            return
        count = partial(self._count, record, target, begun)
        failed = record.outcome == "error" or record.seconds > self._seconds
        count("errors", compared(primary=failed, copy=outcome != "ok"))
        if record.outcome != "ok" or outcome != "ok" or response is None:
            return
        count("refusals", compared(primary=record.refused, copy=refuses(response)))
        if record.response is not None and not record.truncated and wants_structure(record.request):
            self._checker.compare(record.request, (record.response, response), partial(self._structured, count))

    def _structured(self, count: Callable[[str, PairResult], None], results: list[Structured | None]) -> None:
        """From the checker's thread."""
        primary, copy = results
        if primary in ("valid", "invalid") and copy in ("valid", "invalid"):
            result = compared(primary=primary == "invalid", copy=copy == "invalid")
            self._soon(partial(count, "invalid_output", result))

    def _count(self, record: Record, target: Target, begun: float, check: str, result: PairResult) -> None:
        self._metrics.shadow(target.route, target.label).pairs[check, result].value += 1
        if result != "alike":
            worse = target if result == "copy_worse" else record.target
            self._metrics.unit_events.badly(target.route, worse.label, record.unit, begun, event=pair_event(check))

"""A made-up world for tests of the rollout reducer: gateways that count, a clock, and a rollout that looks at them."""

from datetime import datetime, timedelta

from services.rollout.counts import Reading
from services.rollout.decide import new_state, next_look, step
from services.rollout.hook_state import HookAnswer
from services.rollout.models import Rollout
from services.rollout.observation import Command, Loading, Observation, Verb
from services.rollout.samples import NoData
from services.rollout.state import RolloutState
from services.rollout.unit_counts import JUDGED, NEW, SERVED, UNNAMED, UnitReadings, cell, cell_of
from services.rollout.wanted import Effect
from shared.clock import VirtualClock
from shared.gateway_metrics import pair_event
from shared.pipeline import AbTest, Guardrail, RolloutPolicy, RolloutStep

LOADED = Loading(loaded=2)
OUTAGE = NoData("unreachable", "Prometheus cannot be reached")
# Names no user.
TOXIC = AbTest.model_validate({"metric": "promql", "name": "toxic", "bad": 'bad_total{model="$version"}',
                               "total": 'all_total{model="$version"}'})
STABLE, CANDIDATE, CONTROL = "m@1", "m@2", "m@1-control"


def policy(**changes: object) -> RolloutPolicy:
    """Two steps, two guardrails, short times."""
    values: dict[str, object] = {
        "steps": [RolloutStep(weight=20, min_duration=timedelta(seconds=10), min_requests=10),
                  RolloutStep(weight=50, min_duration=timedelta(seconds=10), min_requests=10)],
        "interval": timedelta(seconds=5),
        "guardrails": [Guardrail(metric="errors", tolerable_rate=0.1),
                       Guardrail(metric="latency", slo_seconds=1.0, tolerable_rate=0.1)],
        "deadline": timedelta(minutes=10),
        "load_deadline": timedelta(minutes=2),
    }
    return RolloutPolicy.model_validate({**values, **changes})


def row_of(rules: RolloutPolicy) -> Rollout:
    """The row of a rollout of `CANDIDATE` that waits for its route `m`."""
    at = VirtualClock().now()
    state = new_state(at, rules)
    return Rollout(
        id="m-r2", state=state.phase, pipeline="m", route="m", model_version=CANDIDATE, number=2, model={},
        base_model_digest="", policy=rules.model_dump(mode="json"), data=state.model_dump(mode="json"),
        correlation_id="c", causation_id="", created_at=at, updated_at=at,
    )


class World:
    """One rollout of `CANDIDATE` against `STABLE`. Tests change the attributes and call `look`."""

    def __init__(self, rules: RolloutPolicy | None = None) -> None:
        self.policy = rules or policy()
        self.clock = VirtualClock()
        self.state = new_state(self.clock.now(), self.policy)
        self.counters: dict[tuple[str, str, str], tuple[int, int]] = {}
        self.loading = Loading(waiting=("gpu-0", "gpu-1"))
        self.no_data: NoData | None = None
        self.route_free = True
        self.misfit = ""
        self.successor: str | None = None
        self.counts_units = True
        self.gateways = ["gw"]
        self.new_units = {STABLE: 0, CANDIDATE: 0, CONTROL: 0}
        self.served = {STABLE: 0, CANDIDATE: 0, CONTROL: 0}
        self.met: dict[tuple[str, str], int] = {}
        self.pairs: dict[tuple[str, str], int] = {}  # by metric and whose answer alone was bad
        self.webhooks: dict[str, bool] = {}  # what each answers to every question; one that is not here never does
        self.effects: list[Effect] = []
        self._commands = 0
        self.serve(0, 0)

    def serve(
        self, stable: int, candidate: int, *, bad_stable: int = 0, bad: int = 0, metric: str = "", control: int = 0,
        bad_control: int = 0,
    ) -> None:
        """Count requests, `bad` of them bad for `metric` (all by default)."""
        served = [(STABLE, stable, bad_stable), (CANDIDATE, candidate, bad)]
        if self.policy.control:
            served.append((CONTROL, control, bad_control))
        for version, total, _ in served:
            self.served[version] += total
        for name in (guardrail.called for guardrail in self.policy.guardrails):
            hit = not metric or name.startswith(metric)
            for version, total, wrong in served:
                before = self.counters.get((name, "gw", version), (0, 0))
                self.counters[name, "gw", version] = before[0] + wrong * hit, before[1] + total
                self.met[name, version] = self.met.get((name, version), 0) + wrong * hit

    def restart_gateway(self) -> None:
        self.counters = dict.fromkeys(self.counters, (0, 0))

    def command(self, verb: Verb, reason: str = "because", *, by: str = "", full: bool = False) -> Command:
        self._commands += 1
        return Command(id=self._commands, verb=verb, reason=reason, by=by, full=full)

    def look(self, seconds: float = 5.0, command: Command | None = None) -> list[Effect]:
        """Let time pass, look once; the effects that were wanted."""
        self.clock.advance(seconds)
        self.state, self.effects = step(self.state, self.observation(command), self.now, self.policy)
        # What is stored is JSON; a rollout that could not be read back would be lost.
        self.state = RolloutState.model_validate_json(self.state.model_dump_json())
        return self.effects

    def observation(self, command: Command | None = None) -> Observation:
        readings: dict[str, tuple[Reading, ...] | NoData] = {}
        for guardrail in self.policy.guardrails:
            name = guardrail.called
            readings[name] = self.no_data or self._readings(name)
        return Observation(
            stable=STABLE, candidate=CANDIDATE, readings=readings, loading=self.loading, route_free=self.route_free,
            misfit=self.misfit, successor=self.successor, command=command,
            units=self.no_data or self._units() if self.counts_units else None, answers=self._answers(),
            control=CONTROL if self.policy.control else None,
        )

    def _answers(self) -> dict[str, HookAnswer]:
        return {
            name: HookAnswer(call=mine.call, passed=self.webhooks[name], said="yes" if self.webhooks[name] else "no")
            for name, mine in self.state.hooks.items() if mine.pending and name in self.webhooks
        }

    def _units(self) -> UnitReadings:
        """Each request a unit of its own that has a name, and judged; new are as many as `new_units` says."""
        counters = tuple(
            Reading(target=target, version=version, cell=UNNAMED, value=0, bad=0, total=1)
            for target in self.gateways for version in self.served
        )
        seen = {(version, name): units for version, units in self.served.items() for name in (SERVED, JUDGED)}
        new = {(version, NEW): units for version, units in self.new_units.items()}
        cells = {guardrail.called: cell_of(guardrail, 1) for guardrail in self.policy.guardrails}
        met = {(version, cells[name]): units for (name, version), units in self.met.items()}
        pairs = {(version, cell(pair_event(metric), "", 1)): units for (metric, version), units in self.pairs.items()}
        return UnitReadings(counters, seen | new | met | pairs)

    def _readings(self, name: str) -> tuple[Reading, ...]:
        return tuple(
            reading
            for (guardrail, target, version), (bad, total) in self.counters.items() if guardrail == name
            for reading in (
                Reading(target=target, version=version, cell="bad", value=bad, bad=1, total=1),
                Reading(target=target, version=version, cell="good", value=total - bad, bad=0, total=1),
            )
        )

    @property
    def now(self) -> datetime:
        return self.clock.now()

    @property
    def next_look(self) -> datetime | None:
        return next_look(self.state, self.now, self.policy)

    def to_step(self, number: int) -> None:
        """Bring a fresh rollout to a step, by good traffic."""
        self.look()
        self.loading = LOADED
        self.look()
        while self.state.step < number:
            self.serve(60, 20)
            self.look()

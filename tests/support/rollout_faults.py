"""A rollout that looks through the real client at a Prometheus that misbehaves, with any guardrail; and the faults."""

from collections.abc import Callable
from dataclasses import replace

from services.rollout.decide import step
from services.rollout.observation import Observation
from services.rollout.observe import read
from services.rollout.prometheus import Prometheus
from shared import gateway_metrics as gateway
from shared.pipeline import Guardrail
from tests.support.prometheus import SpeakingPrometheus
from tests.support.rollouts import CANDIDATE, LOADED, STABLE, World, policy

Series = list[tuple[dict[str, str], str, float]]

GUARDRAILS = {
    guardrail.called: guardrail for guardrail in (
        Guardrail(metric="errors", tolerable_rate=0.1),
        Guardrail(metric="latency", slo_seconds=1.0, tolerable_rate=0.1),
        Guardrail(metric="time_to_first_token", slo_seconds=1.0, tolerable_rate=0.1),
        Guardrail(metric="inter_token", slo_seconds=1.0, tolerable_rate=0.1),
        Guardrail(metric="thumbs_down", tolerable_rate=0.1),
        Guardrail(metric="refusals", tolerable_rate=0.1),
        Guardrail(metric="invalid_output", tolerable_rate=0.1),
        Guardrail(
            metric="promql", name="toxic", tolerable_rate=0.1, bad='app_toxic_total{model="$version",route="$route"}',
            total='app_clean_total{model="$version"} + app_toxic_total{model="$version"}',
        ),
    )
}
_CELLS = {
    "errors": (gateway.REQUESTS, "outcome", "ok", "error"),
    "thumbs_down": (gateway.FEEDBACK, "verdict", "good", "bad"),
    "refusals": (gateway.ANSWERS, "kind", "answered", "refused"),
    "invalid_output": (gateway.STRUCTURED, "result", "valid", "invalid"),
}
_HISTOGRAMS = {
    "latency": gateway.DURATION, "time_to_first_token": gateway.FIRST_TOKEN, "inter_token": gateway.MEAN_GAP,
}


def shown(guardrail: Guardrail, labels: dict[str, str], bad: int, total: int, age: float = 0.0) -> dict[str, Series]:
    """The series from which a guardrail reads `bad` of `total`; `labels` are those of the gateway's series."""
    if guardrail.metric == "promql":
        mine = {"job": labels["job"], "instance": labels["instance"], "model": labels["model_version"], "route": "m"}
        return {"app_toxic_total": [(mine, str(bad), age)], "app_clean_total": [(mine, str(total - bad), age)]}
    if guardrail.metric in _HISTOGRAMS:
        cells = {"0.5": 0, "1.0": total - bad, "+Inf": total}
        series = [({**labels, "le": bound}, str(count), age) for bound, count in cells.items()]
        return {f"{_HISTOGRAMS[guardrail.metric]}_bucket": series}
    name, label, good, wrong = _CELLS[guardrail.metric]
    series = [({**labels, label: good}, str(total - bad), age), ({**labels, label: wrong}, str(bad), age)]
    if guardrail.metric == "thumbs_down":
        series.append(({**labels, label: "neutral"}, "0", age))
    return {name: series}


class Faulty(World):
    """A world that is seen through a real client, in the first step of its rollout."""

    def __init__(self, server: SpeakingPrometheus, connect: Callable[[], Prometheus], *guardrails: Guardrail) -> None:
        super().__init__(policy(guardrails=list(guardrails)))
        self.server, self.connect = server, connect
        self.client = connect()
        self.loading = LOADED
        self.publish()
        for _ in range(3):
            self.tick()

    def publish(self, *, age: float = 0.0, versions: tuple[str, ...] = (STABLE, CANDIDATE)) -> None:
        """What a gateway shows, from the world's counters."""
        self.server.series = {}
        named = {guardrail.called: guardrail for guardrail in self.policy.guardrails}
        for (name, target, version), (bad, total) in self.counters.items():
            if version in versions:
                labels = {"job": "gateway", "instance": target, "route": "m", "model_version": version}
                for metric, series in shown(named[name], labels, bad, total, age).items():
                    self.server.series.setdefault(metric, []).extend(series)

    def tick(self, seconds: float = 5.0) -> None:
        """One look through the client."""
        self.clock.advance(seconds)
        self.state, self.effects = step(self.state, self.seen(), self.now, self.policy)

    def seen(self) -> Observation:
        return replace(self.observation(), readings={
            guardrail.called: read(
                self.client, guardrail, self.now, route="m", stable=STABLE, candidate=CANDIDATE,
            ) for guardrail in self.policy.guardrails
        })

    def spoil(self, value: str) -> None:
        """Give the last series of each metric a value that no counter has."""
        for series in self.server.series.values():
            labels, _, age = series[-1]
            series[-1] = labels, value, age

    def drop(self) -> None:
        """Lose the candidate's last series of each metric: half of a counter."""
        for series in self.server.series.values():
            del series[max(i for i, item in enumerate(series) if CANDIDATE in item[0].values())]

    def without(self, label: str, value: str) -> None:
        for name, series in self.server.series.items():
            self.server.series[name] = [item for item in series if item[0].get(label) != value]

    def recover(self) -> None:
        """The fault is over."""
        self.client.close()
        self.client = self.connect()
        self.server.fault, self.server.warnings = None, []
        self.publish()


Arrange = Callable[[Faulty], None]


def _says(status: int, body: str) -> Arrange:
    return lambda world: setattr(world.server, "fault", (status, body))


# What happens, and some of the reason that the rollout must give for holding.
FAULTS: dict[str, tuple[Arrange, str]] = {
    "timeout": (lambda w: setattr(w.server, "fault", "hang"), "did not answer within 0.5 s"),
    "500 with HTML": (_says(500, "<html>"), "answered HTTP 500 without JSON"),
    "502 with nothing": (_says(502, ""), "answered HTTP 502 without JSON"),
    "503 with JSON": (_says(503, '{"status":"error","error":"query timed out"}'), "query timed out"),
    "200 with an error": (_says(200, '{"status":"error","error":"parse error"}'), "parse error"),
    "200 with half a JSON": (_says(200, '{"status":"success","data":{"resu'), "without JSON"),
    "200 with another JSON": (_says(200, "[]"), "no reason given"),
    "200 with a scalar": (_says(200, '{"status":"success","data":{"result":[1,"2"]}}'), "something else than samples"),
    "200 with a native histogram": (
        _says(200, '{"status":"success","data":{"result":[{"metric":{},"histograms":[[1,{}]]}]}}'),
        "something else than samples",
    ),
    "200 with a word for a number": (
        _says(200, '{"status":"success","data":{"result":[{"metric":{},"values":[[1,"many"]]}]}}'),
        "something else than samples",
    ),
    "200 with warnings": (lambda w: w.server.warnings.append("a store is away"), "only in part: ['a store is away']"),
    "no series": (lambda w: w.server.series.clear(), "Prometheus has no series"),
    "no candidate": (lambda w: w.publish(versions=(STABLE,)), CANDIDATE),
    "stale": (lambda w: w.publish(age=40), "is 40 s old, over 15 s"),
    "NaN": (lambda w: w.spoil("NaN"), "has the value nan"),
    "+Inf": (lambda w: w.spoil("+Inf"), "has the value inf"),
    "-Inf": (lambda w: w.spoil("-Inf"), "has the value -inf"),
    "negative": (lambda w: w.spoil("-3"), "has the value -3"),
    "half a counter": (lambda w: w.drop(), CANDIDATE),
}


def assert_holds_and_goes_on(world: Faulty, arrange: Arrange, why: str) -> None:
    """A fault hits a rollout that lacks nothing for its next step but this look's data."""
    assert (world.state.phase, world.state.step) == ("progressing", 1)
    world.serve(200, 50)
    world.publish()
    arrange(world)
    for _ in range(4):
        world.tick()
    assert (world.state.phase, world.state.step, world.state.weight) == ("progressing", 1, 2000)
    assert "no data for" in world.state.reason
    assert why in world.state.reason
    assert world.state.step_seconds < 15, "time passed without data"
    assert {mine.verdict for mine in world.state.guardrails.values()} == {"no_data"}

    world.recover()
    world.tick()
    world.tick()
    for mine in world.state.guardrails.values():
        assert mine.evidence.candidate.total == 50, "what happened meanwhile was lost"
    assert world.state.step == 2



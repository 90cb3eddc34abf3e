"""Steps that are more than a weight: copies before traffic, and people behind what is proved."""

from datetime import timedelta
from typing import Any

from services.rollout.decide import step
from services.rollout.evidence import harm_threshold
from services.rollout.observe import read
from services.rollout.queries import queries_of
from services.rollout.readings import readings_of
from services.rollout.samples import NoData, Sample
from services.rollout.state import RolloutState
from services.rollout.wanted import Record, Shift
from shared.pipeline import Guardrail, RolloutStep, ShadowStep
from tests.support.rollouts import CANDIDATE, STABLE, World, policy

SHORT: dict[str, Any] = {"min_duration": timedelta(seconds=10), "min_requests": 10}
ERRORS = Guardrail(metric="errors", tolerable_rate=0.1)


def shadowed(*guardrails: Guardrail) -> World:
    return World(policy(
        shadow=ShadowStep(percent=30, **SHORT), steps=[RolloutStep(weight=20, **SHORT)],
        guardrails=list(guardrails or [ERRORS]),
    ))


def gated() -> World:
    return World(policy(steps=[RolloutStep(weight=20, approval=True, **SHORT), RolloutStep(weight=50, **SHORT)]))


def rules(world: World) -> list[tuple[str, str]]:
    return [(effect.action, effect.rule) for effect in world.effects if isinstance(effect, Record)]


# --- Copies -----------------------------------------------------------------------------------------------------------


def test_a_step_with_copies_gives_no_weight_and_exposes_nobody() -> None:
    world = shadowed()
    world.to_step(1)
    assert Shift(0, 3000) in world.effects
    assert (world.state.phase, world.state.weight, world.state.shadow) == ("progressing", 0, 3000)
    assert world.state.exposed_from is None
    assert "step 1 of 2 copies 30 % of the requests to it" in world.state.reason
    world.serve(80, 20)
    world.look()
    assert world.state.reason.startswith("step 1 of 2 with copies of 30 %: 5 of 10 s watched; errors is undecided")


def test_good_copies_lead_to_traffic_which_is_judged_anew() -> None:
    world = shadowed()
    world.to_step(1)
    while world.state.step == 1:
        world.serve(60, 60)
        world.look()
    assert (world.state.step, world.state.weight, world.state.shadow) == (2, 2000, 0)
    assert world.state.exposed_from == world.now
    [mine] = world.state.guardrails.values()
    assert (mine.evidence.candidate.total, mine.evidence.e_safe) == (0, 1.0)
    assert mine.counters, "the next look would take all that was ever counted for new"


def test_bad_copies_end_it_before_anybody_saw_an_answer() -> None:
    world = shadowed()
    world.to_step(1)
    world.serve(60, 60, bad=60)
    world.look()
    assert (world.state.phase, world.state.ending, world.state.fired) == ("aborting", "rolled_back", "errors")
    assert Shift(0) in world.effects
    world.look()
    assert world.state.phase == "rolled_back"
    assert world.state.seconds_exposed is None


def test_copies_and_traffic_share_alpha() -> None:
    assert harm_threshold(shadowed().policy) == 2 * harm_threshold(policy(guardrails=[ERRORS]))


def test_what_copies_cannot_show_is_neither_waited_for_nor_judged_until_there_is_traffic() -> None:
    world = shadowed(ERRORS, Guardrail(metric="thumbs_down", tolerable_rate=0.1))
    world.to_step(1)
    while world.state.step == 1:
        world.serve(60, 60, bad=60, metric="thumbs_down")
        world.look()
    assert world.state.step == 2
    world.look(20)
    assert "thumbs_down is undecided: candidate 0 bad of 0" in world.state.reason
    world.serve(60, 60, bad=60, metric="thumbs_down")
    world.look()
    assert (world.state.phase, world.state.fired) == ("aborting", "thumbs_down")


def test_no_data_of_what_copies_cannot_show_holds_nothing_up() -> None:
    world = shadowed(ERRORS, Guardrail(metric="thumbs_down", tolerable_rate=0.1))
    world.to_step(1)
    for _ in range(3):
        world.serve(60, 60)
        world.clock.advance(5)
        seen = world.observation()
        seen = seen.__class__(**{**seen.__dict__, "readings": {
            **seen.readings, "thumbs_down": NoData("empty", "nobody judged"),
        }})
        world.state, _ = step(world.state, seen, world.now, world.policy)
    assert world.state.step == 2


def outcome(version: str, name: str, value: float) -> Sample:
    return Sample({"job": "g", "instance": "1", "model_version": version, "outcome": name}, value, 0)


class Samples:
    """Answers by the metric's name."""

    def __init__(self, **found: list[Sample]) -> None:
        self.found = found

    def newest(self, selector: str, now: object) -> list[Sample] | NoData:
        return self.found.get(selector.partition("{")[0]) or NoData("empty", f"Prometheus has no series {selector}")


def test_copies_are_compared_with_stables_traffic_and_the_candidates_own_is_only_remembered() -> None:
    primary = [outcome(version, name, 5) for version in (STABLE, CANDIDATE) for name in ("ok", "error")]
    copies = [outcome(CANDIDATE, name, 3) for name in ("ok", "error", "timeout", "rejected")]
    samples = Samples(tuneloop_gateway_requests_total=primary, tuneloop_gateway_shadow_total=copies)
    world = shadowed()
    found = read(samples, ERRORS, world.now, route="m", stable=STABLE, candidate=CANDIDATE, copies=True)
    assert not isinstance(found, NoData)
    cells = {(reading.version, reading.cell): (reading.bad, reading.total) for reading in found}
    assert cells == {
        (STABLE, "ok"): (0, 1), (STABLE, "error"): (1, 1), (CANDIDATE, "ok"): (0, 0), (CANDIDATE, "error"): (0, 0),
        (CANDIDATE, "copies ok"): (0, 1), (CANDIDATE, "copies error"): (1, 1), (CANDIDATE, "copies timeout"): (1, 1),
        (CANDIDATE, "copies rejected"): (1, 1),
    }


def test_no_series_of_copies_is_no_data_however_much_traffic_there_is() -> None:
    primary = [outcome(version, name, 5) for version in (STABLE, CANDIDATE) for name in ("ok", "error")]
    samples = Samples(tuneloop_gateway_requests_total=primary)
    found = read(samples, ERRORS, World().now, route="m", stable=STABLE, candidate=CANDIDATE, copies=True)
    assert isinstance(found, NoData)
    assert "no series tuneloop_gateway_shadow_total" in found.reason


def test_latency_of_copies_has_the_same_slo() -> None:
    guardrail = Guardrail(metric="latency", slo_seconds=1.0)
    primary, copies = queries_of(guardrail, "m", STABLE, CANDIDATE, copies=True)
    assert copies.selector == 'tuneloop_gateway_shadow_duration_seconds_bucket{route="m",le=~"1([.]0)?|[+]Inf"}'
    labels = {"job": "g", "instance": "1", "model_version": CANDIDATE}
    buckets = [Sample({**labels, "le": bound}, value, 0) for bound, value in (("1.0", 4.0), ("+Inf", 9.0))]
    found = readings_of(guardrail, [(primary, buckets), (copies, buckets)], CANDIDATE)
    assert not isinstance(found, NoData)
    assert sum(reading.bad * reading.value for reading in found) == 5


# --- People -----------------------------------------------------------------------------------------------------------


def proved() -> World:
    world = gated()
    world.to_step(1)
    while world.state.phase == "progressing" and world.state.step == 1:
        world.serve(60, 60)
        world.look()
    return world


def test_what_is_proved_waits_for_a_person_with_a_reason_and_a_time() -> None:
    world = proved()
    assert (world.state.phase, world.state.step, world.state.weight) == ("paused", 1, 2000)
    assert rules(world) == [("pause", "approval")]
    assert world.state.since == world.now
    assert world.state.reason == (
        "step 1 of 2 at 20 %: every guardrail is safe; waiting for a person to resume, promote or abort"
    )
    began = world.state.since
    for _ in range(200):
        world.serve(60, 60)
        world.look(60)
    assert (world.state.phase, world.state.weight, world.state.since) == ("paused", 2000, began)


def test_a_person_lets_it_pass_once() -> None:
    world = proved()
    world.look(command=world.command("resume", "looks good", by="ada"))
    assert world.state.reason == "resumed by ada: looks good"
    world.look()
    assert (world.state.phase, world.state.step, world.state.weight) == ("progressing", 2, 5000)


def test_harm_does_not_wait_for_a_person() -> None:
    world = proved()
    world.serve(60, 60, bad=60)
    world.look()
    assert (world.state.phase, world.state.ending) == ("aborting", "rolled_back")


def test_approval_is_of_what_is_still_proved() -> None:
    """Between the pause and the person's word some requests failed: not enough for harm, too many to be sure."""
    world = proved()
    world.serve(240, 60, bad_stable=48, bad=12)
    world.look()
    assert world.state.phase == "paused"
    world.look(command=world.command("resume"))
    world.look()
    assert (world.state.phase, world.state.step) == ("progressing", 1)
    assert "is undecided" in world.state.reason


def test_a_pause_of_somebodys_own_is_no_approval() -> None:
    world = gated()
    world.to_step(1)
    world.look(command=world.command("pause"))
    world.look(command=world.command("resume"))
    while world.state.phase == "progressing" and world.state.step == 1:
        world.serve(60, 60)
        world.look()
    assert (world.state.phase, rules(world)) == ("paused", [("pause", "approval")])


def test_a_state_of_before_these_steps_existed_is_read() -> None:
    stored = world_state()
    assert (stored.shadow, stored.approved, stored.awaits_approval) == (0, 0, 0)


def world_state() -> RolloutState:
    document = proved().state.model_dump(mode="json")
    return RolloutState.model_validate({
        key: value for key, value in document.items() if key not in ("shadow", "approved", "awaits_approval")
    })

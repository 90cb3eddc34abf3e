"""Pairs of answers in a step with copies: a sign test that ends a bad candidate before anybody gets its answers."""

import numpy as np
import pytest

from services.rollout.analysis import HARM_RATIOS, Evidence, PairLook
from services.rollout.analysis.evidence import HARM_WEIGHTS, harm_pair_steps, log_harm
from services.rollout.unit_counts import counted_events
from shared.pipeline import Guardrail, RolloutPolicy
from tests.support.rollouts import CANDIDATE, STABLE, World, policy

SHADOW = {"percent": 50, "minDuration": "10s", "minRequests": 10}


def shadowing(*guardrails: dict[str, object]) -> World:
    world = World(policy(shadow=SHADOW, guardrails=[
        Guardrail.model_validate({"metric": "errors", "hardLimit": None}),
        *(Guardrail.model_validate({"hardLimit": None, **guardrail}) for guardrail in guardrails),
    ]))
    world.to_step(1)
    return world


def test_the_evidence_is_a_bet_at_even_odds_mixed_over_the_grid() -> None:
    evidence = Evidence().paired(PairLook(candidate=6, stable=2))
    wins = [(2 * ratio / (1 + ratio)) ** 6 * (2 / (1 + ratio)) ** 2 for ratio in HARM_RATIOS]
    assert evidence.e_harm == pytest.approx(np.dot(HARM_WEIGHTS, wins))
    assert evidence.paired(PairLook()).e_harm == evidence.e_harm


def test_a_fair_coin_is_rarely_taken_for_harm_however_often_one_looks() -> None:
    heads = np.random.default_rng(1).integers(2, size=(1000, 100))
    logs = np.cumsum(harm_pair_steps(1 - heads, heads), axis=1)
    assert (log_harm(logs) >= np.log(20)).any(axis=1).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_a_candidate_that_fails_alone_is_ended_before_it_has_a_user() -> None:
    world = shadowing()
    world.pairs = {("errors", CANDIDATE): 12, ("errors", STABLE): 0}
    world.look()
    assert (world.state.phase, world.state.fired, world.state.exposed_from) == ("aborting", "errors", None)
    assert "only one of the two answers was bad: the candidate's 12, stable's 0" in world.state.reason


def test_what_they_fail_at_by_turns_is_no_harm() -> None:
    world = shadowing()
    for number in range(1, 40):
        world.serve(10, 10, bad_stable=1, bad=1)
        world.pairs = {("errors", CANDIDATE): number, ("errors", STABLE): number}
        world.look()
    assert world.state.phase != "aborting"


@pytest.mark.parametrize("metric", ["refusals", "invalid_output"])
def test_refusals_and_invalid_output_are_judged_by_pairs_alone(metric: str) -> None:
    world = shadowing({"metric": metric})
    world.pairs = {(metric, CANDIDATE): 3, (metric, STABLE): 1}
    world.look()
    evidence = world.state.guardrails[metric].evidence
    assert (evidence.counted_by, evidence.pairs, evidence.candidate.total) == (
        "pair", PairLook(candidate=3, stable=1), 0
    )
    world.pairs[metric, CANDIDATE] = 25
    world.look()
    assert world.state.fired == metric


def test_traffic_begins_without_the_evidence_of_pairs() -> None:
    world = shadowing({"metric": "refusals"})
    world.pairs = {("refusals", CANDIDATE): 3}
    world.look()
    world.to_step(2)
    world.look()
    evidence = world.state.guardrails["refusals"].evidence
    assert (evidence.pairs, evidence.counted_by) == (PairLook(), "unit")
    assert world.state.guardrails["errors"].evidence.counted_by == "unit"


def test_by_request_copies_are_judged_as_they_are() -> None:
    world = shadowing({"metric": "refusals", "countBy": "request"})
    world.pairs = {("refusals", CANDIDATE): 50}
    world.look()
    assert world.state.phase == "progressing"
    assert world.state.guardrails["refusals"].evidence.pairs == PairLook()


def test_gateways_are_asked_for_pairs_only_where_there_are_copies() -> None:
    guardrails = [{"metric": "errors"}, {"metric": "refusals"}, {"metric": "thumbs_down"}]
    plainly = ["served", "errors", "refusals", "thumbs_down", "judged"]
    plain = RolloutPolicy.model_validate({"guardrails": guardrails})
    copying = RolloutPolicy.model_validate({"guardrails": guardrails, "shadow": SHADOW})
    assert [event.event for event in counted_events(plain)] == plainly
    assert [event.event for event in counted_events(copying)] == [*plainly, "pair_errors", "pair_refusals"]

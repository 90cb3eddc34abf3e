"""When the benchmark of forgetting says that a remedy has no effect."""

from collections.abc import Mapping

import pytest

from benchmarks.forgetting.report import REMEDIES, Results, Run, missed
from benchmarks.forgetting.tasks import Scores

# Of the first task and of the second, and nats per token of the first: after the second was learned.
GOOD = {"none": (0.0, 0.9, 3.0), "replay": (0.8, 0.85, 0.1), "ewc": (0.4, 0.7, 1.0), "l2": (0.1, 0.8, 2.0),
        "gradual unfreezing": (0.0, 0.9, 2.9)}


def problems(changed: Mapping[str, tuple[float, float, float] | None]) -> list[str]:
    ways = {name: scores for name, scores in (GOOD | dict(changed)).items() if scores is not None}
    before = Scores(1.0, 0.0, 0.0, 9.0)
    return missed(Results(machine="", runs=[
        Run(seed=seed, family=family, name=name, setting="one", before=before,
            after=Scores(a=a, b=b, nats_a=nats, nats_b=0.1))
        for family in ("full", "adapter") for name, (a, b, nats) in ways.items() for seed in (1, 2)
    ]))


def test_remedies_that_have_an_effect_hold() -> None:
    assert problems({}) == []


@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_remedy_that_is_no_better_than_none_is_named(remedy: str) -> None:
    found = problems({remedy: (0.8, 0.85, 3.0)})
    assert found == [
        f"{family}: {remedy} leaves 3.00 nats per token of A, and none 3.00" for family in ("full", "adapter")
    ]


@pytest.mark.parametrize("scores", [(0.49, 0.9, 0.5), (0.9, 0.79, 0.1)])
def test_replay_keeps_both_tasks(scores: tuple[float, float, float]) -> None:
    (found,) = problems({"replay": scores})
    assert "no replay keeps 0.5 of A and all but 0.1 of B, which is 0.90 without" in found


def test_what_was_not_measured_is_not_taken_for_an_effect() -> None:
    assert problems({"ewc": None}) == ["full: ewc was not measured", "adapter: ewc was not measured"]

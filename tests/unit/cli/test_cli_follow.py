"""A dataset's way to production, in one sentence at a time."""

from typing import Any

import pytest

from services.cli.follow import Loop, Verdict, judge

PREPARED = {"state": "prepared", "reason": None}
RUN: dict[str, Any] = {"id": "run-1", "state": "completed", "reason": None, "attempt": 1, "step": 40, "total_steps": 40,
                       "loss": 0.5, "tokens_per_second": None, "eta_seconds": None}
PASSED = {"id": "eval-1", "state": "passed", "reason": None}
MODEL = {"model_version": "intents@3", "stage": "candidate"}


def going(message: str) -> Verdict:
    return Verdict(ended=False, well=False, message=message)


def bad(message: str) -> Verdict:
    return Verdict(ended=True, well=False, message=message)


@pytest.mark.parametrize(("loop", "verdict"), [
    (Loop(), going("waiting for the registry to hear of the dataset")),
    (Loop({"state": "published"}), going("the dataset is being prepared")),
    (Loop({"state": "rejected", "reason": "line 3: not JSON"}), bad("the dataset was rejected: line 3: not JSON")),
    (Loop(PREPARED), going("the dataset is prepared; waiting for a training run")),
    (Loop(PREPARED, trains=False),
     Verdict(True, True, "the dataset is prepared; no run follows, as triggers.onDataset is off in its pipeline")),
    (Loop(PREPARED, {**RUN, "state": "running", "step": 10, "eta_seconds": 65.0}),
     going("training: running, attempt 1, step 10/40, loss 0.500, 1m 5s left")),
    (Loop(PREPARED, {**RUN, "state": "failed", "reason": "out of memory"}), bad("run run-1 failed: out of memory")),
    (Loop(PREPARED, RUN), going("the adapter is trained; it is being evaluated")),
    (Loop(PREPARED, RUN, {**PASSED, "state": "refused", "reason": "exact_match: 0.1 < 0.5"}),
     bad("the adapter did not pass its gates: exact_match: 0.1 < 0.5")),
    (Loop(PREPARED, RUN, {**PASSED, "state": "failed", "reason": "no disk"}), bad("evaluation eval-1 failed: no disk")),
    (Loop(PREPARED, RUN, PASSED), going("the adapter passed its gates; it is being registered")),
    (Loop(PREPARED, RUN, PASSED, MODEL), going("intents@3 is registered; waiting for its rollout")),
    (Loop(PREPARED, RUN, PASSED, MODEL, {"state": "progressing", "weight": 1000, "reason": "loaded"}),
     going("intents@3: progressing at 10 %: loaded")),
    (Loop(PREPARED, RUN, PASSED, MODEL, {"state": "promoted", "weight": 10000, "reason": "safe"}),
     Verdict(True, True, "intents@3 is in production: safe")),
    (Loop(PREPARED, RUN, PASSED, MODEL, {"state": "rolled_back", "weight": 0, "reason": "errors"}),
     bad("intents@3 was rolled back: errors")),
    (Loop(PREPARED, RUN, PASSED, MODEL, {"state": "superseded", "weight": 0, "reason": "by intents@4"}),
     bad("intents@3 was superseded: by intents@4")),
])
def test_every_place_on_the_way(loop: Loop, verdict: Verdict) -> None:
    assert judge(loop) == verdict

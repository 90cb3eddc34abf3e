"""A step with copies ends a bad candidate, with real gateways, broker, Prometheus and controller: nobody meets it."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.rollout.traffic import traffic
from benchmarks.rollout.withdrawal import candidate, serves, stand
from shared.events import PipelineApplied, ReplicaReady
from shared.pipeline import PipelineSpec
from tests.support.facts import artifact
from tests.support.topics import publish
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

# What only copies can prove: no hard limit, and hours in each step.
SPEC = PipelineSpec.model_validate({"baseModel": "tiny", "rollout": {
    "shadow": {"percent": 100, "minDuration": "1h"}, "steps": [{"weight": 50, "minDuration": "1h"}], "interval": "1s",
    "guardrails": [{"metric": "errors", "hardLimit": None}, {"metric": "refusals", "hardLimit": None}],
}})


def test_a_candidate_whose_copies_fail_is_rolled_back_before_it_has_a_user(tmp_path: Path) -> None:
    with stand(1.0, tmp_path) as to:
        publish(to.bootstrap, ReplicaReady(replica="gpu-0", endpoint=to.model_server, base_model="tiny"),
                PipelineApplied(pipeline="r", version=1, digest=artifact("specs", 1).digest, spec=SPEC))
        for url in to.gateways:
            eventually(lambda url=url: serves(url, 1), what="the route at the gateways")  # type: ignore[misc]
        found: dict[str, Any] = {}

        def ended() -> bool:
            answer = to.controller.get("/v1/rollouts/r-r1")
            found.update(answer.json() if answer.status_code == 200 else {})
            return found.get("phase") == "rolled_back"

        with traffic(to.gateways, ["r"], 12.0) as sent:
            candidate(to, "r", 1)
            eventually(ended, timeout=120, interval=0.5, what=f"the rollback; last seen: {found}")
        decisions = to.controller.get("/v1/rollouts/r-r1/decisions").json()["items"]
    assert set(sent.last) == {"base"}, "the candidate answered somebody"
    [rolled] = [item for item in decisions if item["action"] == "rollback"]
    evidence = rolled["evidence"]["errors"]
    assert (rolled["rule"], evidence["counted_by"], evidence["stable_alone_bad"]) == ("e_harm", "pair", 0)
    assert evidence["candidate_alone_bad"] >= 9
    assert evidence["e_harm"] >= evidence["harm_threshold"] == 80

"""`tuneloop rollouts plan` and what `tuneloop apply` says of a deadline that cannot be met."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import facts

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.yaml"))

pytestmark = pytest.mark.integration


def pipeline(tmp_path: Path, **rollout: Any) -> str:
    document = yaml.safe_load(facts.PIPELINE)
    document["spec"]["rollout"] = {"interval": "5s", "steps": [{"weight": 20, "minDuration": "10s"}], **rollout}
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump(document))
    return str(file)


def test_a_file_is_planned_without_any_service(run: Any, tmp_path: Path) -> None:
    file = pipeline(tmp_path, guardrails=[{"metric": "errors", "tolerableRate": 0.1}])
    shown = run("rollouts", "plan", file, "--rate", "600", "--users", "100", "--runs", "20").stdout
    for word in ("GOOD CANDIDATE", "BAD CANDIDATE", "600 requests/min", "promoted", "users exposed", "20 % for 10s"):
        assert word in shown
    answer = json.loads(run("rollouts", "plan", file, "--rate", "600", "--runs", "20", "-o", "json").stdout)
    good, bad = answer["candidates"]
    assert good["ends"]["promoted"]["share"] > 0.8
    assert bad["ends"]["rolled_back"]["share"] > 0.8


def test_rates_are_given_by_guardrail_too(run: Any, tmp_path: Path) -> None:
    file = pipeline(tmp_path, guardrails=[{"metric": "errors"}, {"metric": "latency", "sloSeconds": 2.5}])
    result = run("rollouts", "plan", file, "--rate", "600", "--runs", "2", "--stable-rate", "0.02", "--stable-rate",
                 "latency>2.5s=0.2", "--guardrail", "latency>2.5s", "--bad-rate", "0.6", "-o", "json")
    bad = json.loads(result.stdout)["candidates"][1]
    assert (bad["guardrail"], bad["stable_bad_rate"], bad["candidate_bad_rate"]) == ("latency>2.5s", 0.2, 0.6)


def test_what_cannot_be_planned_says_why(run: Any, tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    for arguments, code, message in (
        ((file,), 2, f"{file} does not say how much traffic its route gets: give --rate"),
        ((file, "--rate", "60", "--guardrail", "refusals"), 1, "the policy has no guardrail 'refusals'; it has errors"),
        ((file, "--rate", "60", "--stable-rate", "few"), 2, "--stable-rate: 'few' is not a share"),
        ((file, "--rate", "60", "--stable-rate", "errors=2"), 2, "--stable-rate: 'errors=2' is not between 0 and 1"),
        (("nowhere.yaml", "--rate", "60"), 2, "nowhere.yaml: no such file"),
    ):
        result = run("rollouts", "plan", *arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith(f"error: {message}")


def test_an_applied_pipeline_is_planned_with_the_traffic_that_it_expects(
    run: Any, registry: Any, tmp_path: Path
) -> None:
    file = pipeline(tmp_path, expectedTraffic={"requestsPerMinute": 1200, "badRate": 0.02})
    applied = run("apply", file, TUNELOOP_REGISTRY_URL=registry.url)
    assert (applied.exit_code, applied.stderr) == (0, "")
    result = run("rollouts", "plan", "intents", "--runs", "5", "-o", "json", TUNELOOP_REGISTRY_URL=registry.url)
    answer = json.loads(result.stdout)
    assert answer["traffic"]["requests_per_minute"] == 1200
    assert answer["candidates"][0]["stable_bad_rate"] == 0.02


def test_applying_a_deadline_that_cannot_be_met_warns_with_the_numbers(
    run: Any, registry: Any, tmp_path: Path
) -> None:
    file = pipeline(tmp_path, deadline="5m", expectedTraffic={"requestsPerMinute": 10})
    result = run("apply", file, "-o", "json", TUNELOOP_REGISTRY_URL=registry.url)
    assert result.exit_code == 0
    [warning] = json.loads(result.stdout)["items"][0]["warnings"]
    assert warning.startswith("At 10 requests/min 0 % (0-")
    assert "are promoted by the deadline of 5m; for nine of ten of them" in warning
    assert result.stderr == f"warning: {file}: {warning}\n"
    again = run("apply", file, TUNELOOP_REGISTRY_URL=registry.url)
    assert again.stderr == ""


def test_a_deadline_before_the_steps_can_be_over_is_warned_of_whatever_the_traffic(
    run: Any, registry: Any, tmp_path: Path
) -> None:
    file = pipeline(tmp_path, deadline="5m", steps=[{"weight": 20, "minDuration": "6m"}])
    result = run("apply", file, TUNELOOP_REGISTRY_URL=registry.url)
    assert result.stderr.startswith(f"warning: {file}: At 6000 requests/min 0 % (0-")
    assert "for nine of ten of them it takes 6m" in result.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_applied_without_a_warning(run: Any, registry: Any, path: Path) -> None:
    result = run("apply", str(path), TUNELOOP_REGISTRY_URL=registry.url)
    assert (result.exit_code, result.stderr) == (0, "")

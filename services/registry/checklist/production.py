"""In production: how it gets traffic, and what watches it."""

from services.registry.checklist.shared import (
    NO_SPEC,
    Facts,
    Outcome,
    Questions,
    failed,
    judged,
    not_applicable,
    not_run,
    passed,
)


def _gradual(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    weights = [f"{step.weight:g} %" for step in facts.spec.rollout.steps]
    return judged(facts.spec.rollout.steps[0].weight < 100, f"steps of {', '.join(weights)} before all traffic")


def _watched(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    called = ", ".join(guardrail.called for guardrail in facts.spec.rollout.guardrails)
    return passed(f"guardrails: {called}") if called else failed("the policy has no guardrail")


def _way_back(facts: Facts) -> Outcome:
    if facts.rollout is None:
        return not_applicable("it has no rollout")
    told = f"rollout {facts.rollout.id} is {facts.rollout.state}"
    return passed(told + (f": {facts.rollout.reason}" if facts.rollout.reason else "") +
                  "; a guardrail rolls it back, and `tuneloop rollouts abort` and `undo` do")


def _ab_test(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    test = facts.spec.rollout.ab_test
    return not_applicable("spec.rollout.abTest is absent: it is not tested for being better") if test is None else \
        passed(f"on {test.called}")


def _drift(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    if facts.spec.capture is None:
        return not_run("spec.capture is absent: there are no samples of live traffic to compare")
    return passed(f"{100 * facts.spec.capture.share:g} % of requests are compared; on an alarm: "
                  f"{facts.spec.triggers.on_drift.action}")


def _again(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    rule = facts.spec.triggers.reevaluate
    return not_run("spec.triggers.reevaluate is absent: production is not measured again") if rule is None else \
        passed(f"at {rule.cron} UTC")


PRODUCTION: Questions = {
    "it gets traffic in steps": _gradual,
    "guardrails watch it": _watched,
    "there is a way back": _way_back,
    "it is compared with production by users": _ab_test,
    "drift is watched": _drift,
    "it is measured again": _again,
}

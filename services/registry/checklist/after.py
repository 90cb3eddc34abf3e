"""After training: what the adapter can do, and what is known about it."""

from services.registry.checklist.before import numbers
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
from shared.events import Measurement

_NOTHING_SHARED = not_run("no metric was measured of both that says which is better")
_NO_EVALUATION = not_run("no evaluation of this run has ended")
_FORGETTING = not_run("nothing tests general abilities: evaluations have the pipeline's own rows alone")
_PEOPLE = not_run("no judgement by people is recorded")


def _tested(facts: Facts) -> Outcome:
    found = facts.measured("candidate")
    if found is None:
        return _not_measured(facts)
    return passed(f"on {found.rows} held-out rows: {numbers(found.metrics)}")


def _changes(facts: Facts) -> Outcome:
    change = facts.metric("logit_change")
    if change is not None:
        return passed(f"training changed a logit of validation rows by up to {change:.4g}, and what was saved loads "
                      f"into what was trained (off by {facts.metric('logit_error') or 0:.2g})")
    if facts.measured("candidate") is None:
        return _not_measured(facts)
    return passed("the evaluation measured it, which refuses an adapter with which the base's output stays the same")


def _better(facts: Facts) -> Outcome:
    candidate, base = facts.measured("candidate"), facts.measured("base")
    if candidate is None or base is None:
        return _not_measured(facts)
    found = _compared(candidate, base)
    if found is None:
        return _NOTHING_SHARED
    name, mine, other, gain = found
    return judged(gain > 0, f"{name} {mine:.4g}, the bare base {other:.4g}")


def _regression(facts: Facts) -> Outcome:
    new, old = (facts.measured(subject, "production_heldout") for subject in ("candidate", "production"))
    if facts.evaluation is None or facts.measured("candidate") is None:
        return _not_measured(facts)
    if new is None or old is None:
        return not_applicable("nothing was in production to compare with")
    gates = [gate for gate in facts.evaluation.gates or [] if "production" in gate.gate]
    if gates:
        return judged(all(gate.passed for gate in gates), "; ".join(gate.reason for gate in gates))
    found = _compared(new, old)
    if found is None:
        return _NOTHING_SHARED
    name, mine, other, gain = found
    return judged(gain >= 0, f"on production's own held-out rows: {name} {mine:.4g}, production {other:.4g}; no gate "
                  "asks for it")


def _compared(new: Measurement, old: Measurement) -> tuple[str, float, float, float] | None:
    """The first metric that was measured of both, its two values, and by how much the new one is better."""
    # Of texts and of scores there is no exact match.
    for name, sign in (("exact_match", 1), ("bits_per_byte", -1), ("pairwise_accuracy", 1)):
        mine, other = new.metrics.get(name), old.metrics.get(name)
        if mine is not None and other is not None:
            return name, mine, other, sign * (mine - other)
    return None


def _gates(facts: Facts) -> Outcome:
    if facts.evaluation is None or facts.evaluation.gates is None:
        return _not_measured(facts)
    refused = [f"{gate.gate}: {gate.reason}" for gate in facts.evaluation.gates if not gate.passed]
    return failed("; ".join(refused)) if refused else passed(f"all {len(facts.evaluation.gates)} of them")


def _documented(facts: Facts) -> Outcome:
    digests = {"base": facts.run.base_model_digest, "dataset": facts.run.dataset_digest,
               "adapter": facts.run.adapter_digest}
    missing = [name for name, digest in digests.items() if not digest]
    if missing:
        return not_run(f"the digest of {' and '.join(missing)} has not been told; the run is {facts.run.state}")
    return passed(f"pipeline version {facts.run.pipeline_version}, and the digests of base, dataset and adapter")


def _template(facts: Facts) -> Outcome:
    if facts.spec is not None and not facts.spec.training.adapts:
        return not_applicable("no model server loads it beside others on its base")
    if not facts.run.base_model_digest:
        return not_run(f"the digest of its base has not been told; the run is {facts.run.state}")
    return passed("agents load it only onto a base of the digest that it was trained on, which has the chat template; "
                  "its manifest has that template's hash. A template that somebody gave a model server is not seen")


def _served(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    recipe = facts.spec.training
    if recipe.objective == "reward":
        return not_applicable("a reward model meets no users")
    if not recipe.adapts:
        return not_applicable("it is a whole model: put it under base-models/ and serve it as a base of its own")
    return passed(f"an adapter of {recipe.method}, served beside others on its base by: {', '.join(recipe.servers)}")


def _versioned(facts: Facts) -> Outcome:
    if facts.model is not None:
        return passed(f"it is {facts.model.model_version}")
    if facts.evaluation is not None and facts.evaluation.state == "refused":
        return not_applicable("a gate refused it, so it became no model version")
    return not_run("it has become no model version yet")


def _not_measured(facts: Facts) -> Outcome:
    if facts.evaluation is not None and facts.evaluation.state == "failed":
        return failed(f"the evaluation failed: {facts.evaluation.reason}")
    return _NO_EVALUATION


AFTER: Questions = {
    "it was tested on rows that it never saw": _tested,
    "it changes what the base says": _changes,
    "it is better than the bare base": _better,
    "it is no worse than production": _regression,
    "it forgot no general abilities": _FORGETTING,
    "its gates hold": _gates,
    "people judged its answers": _PEOPLE,
    "what made it is recorded": _documented,
    "it is in a form that is served": _served,
    "serving has the template of training": _template,
    "it is a version in the registry": _versioned,
}

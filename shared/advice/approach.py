"""Prompting, retrieval, fine-tuning or a hybrid: what a use case asks for. Pure.

No score adds unlike things up: each rule says what it found, what follows, and where that comes from. What was measured
(`promptingScore`) decides before what was only described.
"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from shared.advice import sources
from shared.advice.budget import Approach, Costs, monthly_costs
from shared.advice.profile import UseCase
from shared.advice.samples import Samples
from shared.advice.sources import Source


class Reason(BaseModel):
    """One rule: what was found, what follows, and its source."""

    model_config = ConfigDict(frozen=True)

    finding: str
    follows: str
    source: Source


@dataclass(frozen=True)
class Choice:
    """What is advised, why, and what it and its alternatives cost."""

    approach: Approach
    reasons: list[Reason]
    costs: list[Costs]


@dataclass(frozen=True)
class _Needs:
    """What a use case asks for, before money and time."""

    retrieval: bool
    training: bool
    possible: bool
    plenty: bool


def choose(case: UseCase, samples: Samples, training_gpu_hours: float | None) -> Choice:
    """The approach for a use case.

    Args:
        training_gpu_hours: what one training run takes on the hardware that was asked about; None if unknown.
    """
    reasons: list[Reason] = []
    needs = _needs(case, samples, reasons)
    wanted = _wanted(case, needs, reasons)
    wanted = _in_time(case, wanted, reasons)
    costs = monthly_costs(case, training_gpu_hours)
    return Choice(_affordable(case, wanted, needs, costs, reasons), reasons, costs)


def _needs(case: UseCase, samples: Samples, reasons: list[Reason]) -> _Needs:
    retrieval = training = False
    if case.needs_citations or (case.needs_knowledge and case.knowledge_updates != "static"):
        retrieval = True
        what = "must be cited" if case.needs_citations else f"changes {case.knowledge_updates}"
        reasons.append(Reason(
            finding=f"the knowledge that answers need {what}",
            follows="look it up at each request: weights know neither what is new nor where it stands",
            source=sources.RAG,
        ))
    elif case.needs_knowledge:
        retrieval = True
        reasons.append(Reason(
            finding="answers need facts that the base model has not",
            follows="look them up: retrieval beat unsupervised fine-tuning on known and on new facts; training on "
            f"facts that a model does not know also teaches it to make things up ({sources.HALLUCINATE.where})",
            source=sources.RETRIEVAL,
        ))
    if named := [word for word, there in (("format", case.needs_format), ("tone", case.needs_tone)) if there]:
        training = True
        reasons.append(Reason(
            finding=f"answers must have one {' and one '.join(named)}",
            follows="train it: form and style are what little data teaches well", source=sources.LIMA,
        ))
    if case.complexity == "complex":
        training = True
        reasons.append(Reason(
            finding="the task is complex", follows="train it: a bare model's errors add up over the steps of an answer",
            source=sources.PRACTICE,
        ))
    possible = case.examples >= samples.minimum
    reasons.append(Reason(
        finding=f"{case.examples} examples; {samples.minimum} are the least, {samples.recommended} are good",
        follows="enough to train on" if possible else f"not enough to train on: collect "
        f"{samples.minimum - case.examples} more", source=samples.source,
    ))
    return _Needs(retrieval, training, possible, case.examples >= samples.recommended)


def _wanted(case: UseCase, needs: _Needs, reasons: list[Reason]) -> Approach:
    score = case.prompting_score
    if score is not None and score >= case.target_score:
        reasons.append(Reason(
            finding=f"the best prompt reached {score:g} of the {case.target_score:g} that is good enough",
            follows="prompting does it; train only if the prompt's length costs more than training (see the costs)",
            source=sources.FEW_SHOT,
        ))
        return "rag" if needs.retrieval else "prompting"
    if score is not None:
        reasons.append(Reason(
            finding=f"the best prompt reached {score:g} where {case.target_score:g} is good enough",
            follows="more than a prompt is needed", source=sources.FEW_SHOT,
        ))
    else:
        reasons.append(Reason(
            finding="nobody has measured what a prompt reaches",
            follows="try a prompt on your test rows first: it is the baseline of all else, and may be enough",
            source=sources.FEW_SHOT,
        ))
    asked = needs.training or (not needs.retrieval and (score is not None or needs.plenty))
    trains = needs.possible and asked
    if needs.plenty and not needs.training and trains:
        reasons.append(Reason(
            finding=f"{case.examples} examples are plenty for a {case.complexity} task",
            follows="train on them: a small trained model answers without examples in its prompt", source=sources.LORA,
        ))
    if needs.retrieval:
        return "hybrid" if trains else "rag"
    return "fine_tuning" if trains else "prompting"


def _in_time(case: UseCase, wanted: Approach, reasons: list[Reason]) -> Approach:
    """Retrieval takes time at each request. That a use case can wait speaks for nothing."""
    if case.latency_ms is None or wanted not in ("rag", "hybrid") or case.retrieval_ms < case.latency_ms:
        return wanted
    must = case.needs_citations or case.knowledge_updates in ("daily", "weekly")
    reasons.append(Reason(
        finding=f"looking up takes {case.retrieval_ms:g} ms of the {case.latency_ms:g} ms that an answer may take",
        follows="no approach fits: the knowledge must be looked up; make the retrieval faster or the limit longer"
        if must else "no time for retrieval: what the model must know has to be in its weights",
        source=sources.ARITHMETIC,
    ))
    return wanted if must else ("fine_tuning" if wanted == "hybrid" else "prompting")


def _affordable(
    case: UseCase, wanted: Approach, needs: _Needs, costs: list[Costs], reasons: list[Reason]
) -> Approach:
    """The wanted approach where the budget allows it, else the best one that it allows and that meets the needs."""
    if case.budget_monthly_usd is None:
        return wanted
    by_name = {item.approach: item.usd for item in costs}
    cost = by_name[wanted]
    if cost is None:
        missing = "; ".join(next(item.unknown for item in costs if item.approach == wanted))
        reasons.append(Reason(
            finding=f"a budget of {case.budget_monthly_usd:g} USD a month, and no cost to compare it with",
            follows=f"not judged: say {missing}", source=sources.ARITHMETIC,
        ))
        return wanted
    if cost <= case.budget_monthly_usd:
        reasons.append(Reason(
            finding=f"{_words(wanted)} costs about {cost:.2f} USD of {case.budget_monthly_usd:g} a month",
            follows="it is within the budget", source=sources.ARITHMETIC,
        ))
        return wanted
    allowed = [name for name in _instead(wanted, needs)
               if (usd := by_name[name]) is not None and usd <= case.budget_monthly_usd]
    follows = f"{_words(allowed[0])} instead, for {by_name[allowed[0]]:.2f} USD" if allowed else \
        "no approach that meets the needs is within the budget: shorter prompts, a smaller model, fewer trainings"
    reasons.append(Reason(
        finding=f"{_words(wanted)} costs about {cost:.2f} USD, more than {case.budget_monthly_usd:g} a month",
        follows=follows, source=sources.ARITHMETIC,
    ))
    return allowed[0] if allowed else wanted


def _instead(wanted: Approach, needs: _Needs) -> list[Approach]:
    """What may take the place of an approach, the nearest first. Knowledge that must be looked up stays looked up."""
    if needs.retrieval:
        return ["rag"] if wanted == "hybrid" else (["hybrid"] if needs.possible else [])
    return ["prompting"] if wanted == "fine_tuning" else (["fine_tuning"] if needs.possible else [])


def _words(approach: Approach) -> str:
    return {"prompting": "prompting", "rag": "retrieval", "fine_tuning": "fine-tuning", "hybrid": "a hybrid"}[approach]

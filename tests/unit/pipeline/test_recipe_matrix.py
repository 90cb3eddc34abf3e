"""Which methods, objectives and options go together, and that all else is refused by its key, with what to do."""

import pytest

from shared.docs.matrix import PAGE, page
from shared.recipe import Method, Objective
from shared.recipe_matrix import METHODS, OBJECTIVES, OPTIONS, Option, methods_for, refusal

VIRTUAL: set[Method] = {"prefix", "prompt"}
REFUSED: dict[Objective, set[Method]] = {
    "sft": set(), "reward": VIRTUAL | {"adapter"},
    **dict.fromkeys(("pretrain", "distill", "dpo", "kto", "grpo", "rloo", "ppo"), VIRTUAL),
}
NEEDS_TO_BE_REMEDIED = ("remove", "train with", "pretrain with", "name that as", "name one", "publish", "hold weights")


def test_every_objective_has_its_methods() -> None:
    assert {each: set(METHODS) - set(methods_for(each)) for each in OBJECTIVES} == REFUSED


@pytest.mark.parametrize(("option", "objectives"), [
    ("merge", {"sft", "pretrain", "distill", "dpo", "kto", "grpo", "rloo", "ppo"}),
    ("startFrom", set(OBJECTIVES)),
    ("multiTask", {"sft", "distill"}),
    ("forgetting.replay", {"sft", "distill", "dpo", "kto", "reward"}),
    ("forgetting.ewc", {"sft", "distill", "dpo", "kto"}),
    ("forgetting.l2", {"sft", "distill", "dpo", "kto", "reward", "pretrain"}),
    ("forgetting.gradualUnfreezing", {"sft", "distill", "dpo", "kto", "reward", "pretrain"}),
])
def test_every_option_has_its_objectives(option: Option, objectives: set[Objective]) -> None:
    assert {each for each in OBJECTIVES if methods_for(each, option)} == objectives


@pytest.mark.parametrize("option", [None, *OPTIONS])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_refused_is_named_with_its_remedy(objective: Objective, option: Option | None) -> None:
    for method in METHODS:
        refused = refusal(method, objective, option)
        if refused is not None:
            key, why = refused
            assert key in {"objective", "method", "lora", *OPTIONS}
            assert any(word in why for word in NEEDS_TO_BE_REMEDIED), why


def test_a_method_without_a_reference_of_its_own_does_not_go_on_where_one_is_compared_with() -> None:
    compared = {each for each in OBJECTIVES if refusal("adapter", each, "startFrom") and not refusal("adapter", each)}
    assert compared == {"dpo", "kto", "grpo", "rloo", "ppo"}


def test_the_page_shows_what_the_checks_say() -> None:
    text = PAGE.read_text()
    assert text == page(text), "docs/training.md is stale: run `python -m shared.docs.matrix`"
    with pytest.raises(ValueError, match="lacks the lines"):
        page("a page without tables")

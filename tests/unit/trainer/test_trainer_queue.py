"""Who of the waiting runs gets a place, and what a run may take."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.queue import Place, Waiting, next_up
from services.trainer.usage import check_price, limit_reached, price_of
from shared.errors import InvalidInputError
from shared.limits import Limits
from shared.recipe import TrainingRecipe
from tests.support.delivery import START

HOUR = timedelta(hours=1)


def waits(run_id: str, *, pipeline: str = "p", priority: int = 0, hardware: str = "default", age: float = 0) -> Waiting:
    return Waiting(pipeline, hardware, run_id, priority, START - timedelta(hours=age))


def chosen(*runs: Waiting, places: int = 1, held: tuple[Place, ...] = ()) -> list[str]:
    return next_up(runs, held, lambda _: places, now=START, aging=HOUR)


def test_the_order_is_priority_with_age_then_fairness_then_age() -> None:
    assert chosen(waits("low"), waits("high", priority=1)) == ["high"]
    assert chosen(waits("old", age=2), waits("high", priority=1)) == ["old"], "an hour is worth one priority"
    assert chosen(waits("later", age=0.1), waits("sooner", age=0.2)) == ["sooner"]
    busy = (Place("p", "default"),)
    assert chosen(waits("mine", age=0.5), waits("theirs", pipeline="q"), places=2, held=busy) == ["theirs"]
    assert chosen(waits("p1", age=0.9), waits("p2", age=0.8), waits("q1", pipeline="q"), places=2) == ["p1", "q1"]


def test_a_full_class_does_not_hold_up_another() -> None:
    runs = (waits("full", priority=9), waits("free", hardware="a100"))
    assert chosen(*runs, held=(Place("p", "default"),)) == ["free"]
    assert chosen(*runs, places=0) == []


@given(st.lists(st.tuples(st.integers(-100, 100), st.sampled_from("abc"), st.sampled_from("xy"), st.floats(0, 300)),
                max_size=12), st.integers(0, 4))
def test_no_place_is_given_twice_and_none_stays_empty(runs: list[tuple[int, str, str, float]], places: int) -> None:
    waiting = [waits(str(number), priority=priority, pipeline=pipeline, hardware=hardware, age=age)
               for number, (priority, pipeline, hardware, age) in enumerate(runs)]
    got = chosen(*waiting, places=places)
    for hardware in "xy":
        of_class = [run for run in waiting if run.hardware == hardware]
        assert sum(run.run_id in got for run in of_class) == min(places, len(of_class))
    assert len(set(got)) == len(got)


def test_a_run_that_has_waited_long_enough_precedes_every_newcomer() -> None:
    newcomers = [waits(f"new-{number}", priority=100) for number in range(20)]
    assert chosen(*newcomers, waits("patient", priority=-100, age=201)) == ["patient"]


def test_limits_are_of_time_and_of_money() -> None:
    recipe = TrainingRecipe.model_validate({
        "limits": {"cost": 3.0}, "resources": {"gpu": 2, "nodes": 2, "hardware": "h100"}})
    price = price_of(recipe, {"h100": 2.0, "default": 1.0})
    assert price == 8
    assert limit_reached(recipe.limits, 1300, price) is None
    assert limit_reached(recipe.limits, 1350, price) == (
        "it has cost 3 (0.375 h at 8 an hour), and training.limits.cost is 3")
    limits = Limits.model_validate({"time": "2h"})
    assert limit_reached(limits, 7199, None) is None
    assert "training.limits.time is 7200 s" in str(limit_reached(limits, 7200, None))
    assert price_of(TrainingRecipe(), {"default": 0.5}) == 0.5, "a machine where there is no GPU"
    check_price(recipe, {"h100": 0.0})
    with pytest.raises(InvalidInputError, match="no price for hardware class h100"):
        check_price(recipe, {"default": 1.0})

"""What a run has taken, and whether that is its limit. Pure."""

from collections.abc import Mapping

from services.trainer.queue import DEFAULT_CLASS
from shared.errors import InvalidInputError
from shared.limits import Limits
from shared.recipe import TrainingRecipe


def hardware_of(recipe: TrainingRecipe) -> str:
    """The class of nodes that a run's jobs ask for."""
    return recipe.resources.hardware or DEFAULT_CLASS


def price_of(recipe: TrainingRecipe, prices: Mapping[str, float]) -> float | None:
    """What an hour of the run's jobs costs; None where nobody said.

    Args:
        prices: of an hour of one GPU, or of a machine where jobs have none, by hardware class.
    """
    price = prices.get(hardware_of(recipe))
    return None if price is None else price * max(1, recipe.resources.gpu) * recipe.resources.nodes


def check_price(recipe: TrainingRecipe, prices: Mapping[str, float]) -> None:
    """Refuse a limit that nobody could ever see reached.

    Raises:
        InvalidInputError: the run's cost is limited, and its hardware class has no price.
    """
    if recipe.limits.cost is not None and price_of(recipe, prices) is None:
        raise InvalidInputError(
            f"training.limits.cost is {recipe.limits.cost:g}, but TUNELOOP_HOURLY_PRICES has no price for hardware "
            f"class {hardware_of(recipe)}; add one, or limit the time"
        )


def limit_reached(limits: Limits, seconds: float, price: float | None) -> str | None:
    """Why a run must stop after `seconds` of work at `price` an hour; None where it may go on."""
    hours = seconds / 3600
    if limits.time is not None and seconds >= limits.time.total_seconds():
        return f"it has worked for {seconds:.0f} s, and training.limits.time is {limits.time.total_seconds():.0f} s"
    if limits.cost is not None and price is not None and hours * price >= limits.cost:
        return (f"it has cost {hours * price:.4g} ({hours:.3g} h at {price:g} an hour), and training.limits.cost is "
                f"{limits.cost:g}")
    return None

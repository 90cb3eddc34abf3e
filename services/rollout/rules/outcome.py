"""What a rule answers with, and what all rules share. Pure."""

from collections.abc import Callable
from datetime import datetime, timedelta

from services.rollout.observation import Command, Observation
from services.rollout.state import RolloutState
from services.rollout.wanted import Answer, Effect
from shared.pipeline import RolloutPolicy

# Between taking the last weight from a version and taking the version itself away, so that a gateway that hears of
# the change a moment later than the others still finds it loaded.
SETTLE = timedelta(seconds=2)

# The next state, and what must be done for it to be true.
Outcome = tuple[RolloutState, list[Effect]]
# None: it has nothing to say at this look.
Rule = Callable[[RolloutState, Observation, datetime, RolloutPolicy], Outcome | None]


def refuse(command: Command | None, why: str) -> list[Effect]:
    """The answer to a person who asked for what cannot be; nothing where nobody asked."""
    return [Answer(command.id, refused=why)] if command else []

"""What a look wants done, as values: the reducer in decide.py wants it, and effects.py carries it out."""

from dataclasses import dataclass

from services.rollout.hook_state import Ask


@dataclass(frozen=True)
class TakeRoute:
    """Become the route's only rollout: candidate at weight 0, and a control where there is to be one; a new salt."""

    control: bool = False


@dataclass(frozen=True)
class Shift:
    """Give the candidate and the control these shares of the traffic (basis points), stable the rest; and copies of a
    share of the requests to both.
    """

    weight: int
    shadow: int = 0
    control: int = 0


@dataclass(frozen=True)
class MakeStable:
    """The candidate becomes stable, the old stable version leaves, and the route is free."""


@dataclass(frozen=True)
class LeaveRoute:
    """The candidate leaves and the route is free."""


@dataclass(frozen=True)
class Announce:
    """Say in an event that the rollout is now where its state says."""


@dataclass(frozen=True)
class Record:
    """Store a decision with the evidence of the state: what was done, by which rule, why, and by whom."""

    action: str
    rule: str
    reason: str
    by: str = ""


@dataclass(frozen=True)
class Answer:
    """Close a command: done, or refused with a reason."""

    command: int
    refused: str = ""


Effect = TakeRoute | Shift | MakeStable | LeaveRoute | Announce | Record | Answer | Ask

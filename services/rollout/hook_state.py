"""The values that hooks.py works on: what a rollout remembers of its webhooks, and what it hears from them."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict


class HookState(BaseModel):
    """What one webhook has been asked, and what it answered.

    Attributes:
        point: what it was asked about last, such as ``step 2``; empty where an answer is wanted no more.
        call: counts the questions; an answer to an earlier one changes nothing.
        asked_at: when the last question was.
        pending: that is not answered yet.
        answered: it has been answered about this point.
        passed: the last answer about this point was 2xx.
        failures: answers in a row that were not.
        said: the last answer about this point, for people.
        told: people have heard that it holds the rollout at this point.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    point: str = ""
    call: int = 0
    asked_at: datetime | None = None
    pending: bool = False
    answered: bool = False
    passed: bool = False
    failures: int = 0
    said: str = ""
    told: bool = False


@dataclass(frozen=True)
class HookAnswer:
    """What came of a question.

    Attributes:
        call: which one.
        passed: the answer was 2xx.
        said: the answer in words, or why there was none.
    """

    call: int
    passed: bool
    said: str


@dataclass(frozen=True)
class Ask:
    """Ask a webhook: its question `call` of this rollout."""

    webhook: str
    call: int

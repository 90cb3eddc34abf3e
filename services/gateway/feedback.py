"""What people think of answers: what may be said, about which answer, and what counts. Pure, but for its memory.

The first judgement of a (request, key) counts in the metric, for good: a counter cannot go down, and a guardrail must
not be moved twice by one answer. What is said later about the same answer with the same key is published, and replaces
the former for whoever reads the events. The same said again is the same event.
"""

import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.gateway import errors
from services.gateway.doorkeeper import Caller
from services.gateway.plan import Plan
from services.gateway.target_metrics import Verdict

_EVENTS = uuid.UUID("7d0f7a51-9d0c-4c0e-8a4b-3c1f6f6f5e21")
_SCORES = {"up": 1.0, "down": -1.0}
# Keys whose judgement of one answer is remembered.
_KEYS_PER_ANSWER = 16


class Feedback(BaseModel):
    """The body of ``POST /v1/feedback``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    score: Annotated[float, Field(ge=-1, le=1, strict=True, allow_inf_nan=False)] | None = None
    label: Literal["up", "down"] | None = None
    comment: Annotated[str, Field(max_length=4_000)] = ""
    correction: Annotated[str, Field(max_length=32_000)] = ""
    model_version: str | None = None
    route: str | None = None

    @model_validator(mode="after")
    def _one_judgement(self) -> "Feedback":
        if (self.score is None) == (self.label is None):
            raise ValueError("give either score (-1 to 1) or label (up or down)")
        return self

    @property
    def value(self) -> float:
        """The judgement as a score."""
        return self.score if self.score is not None else _SCORES[self.label or ""]

    @property
    def verdict(self) -> Verdict:
        """What it counts as."""
        return "good" if self.value > 0 else "bad" if self.value < 0 else "neutral"

    def digest(self) -> str:
        """Of what is said, however it is written."""
        said = "\0".join((repr(self.value), self.comment, self.correction))
        return sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


def parse_feedback(raw: bytes) -> Feedback:
    """The feedback in a body.

    Raises:
        ApiError: 400, naming the first thing that is wrong.
    """
    try:
        return Feedback.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise errors.invalid_json(first["msg"]) from error
        name = ".".join(map(str, first["loc"])) or "the body"
        raise errors.invalid_field(name, first["msg"].removeprefix("Value error, ")) from error


class Asked(NamedTuple):
    """Who asked for an answer, and when.

    Attributes:
        unit: fingerprint under the salt of then.
        begun: on the clock of `UnitEvents`, which knows by it whether that is the present salt.
    """

    unit: int
    begun: float


@dataclass(slots=True)
class Answer:
    """An answer that may be judged.

    Attributes:
        asked: None where another gateway gave it, as the client says.
        said: by key id, the digest of what was said last and is in Kafka; empty where another gateway heard it.
    """

    route: str
    label: str
    asked: Asked | None
    said: dict[str, str] = field(default_factory=dict)

    @property
    def seen(self) -> bool:
        """This gateway gave it."""
        return self.asked is not None


class Answers:
    """The answers of late, bounded in number: those given here, and those that only a client told of.

    Two memories, or whoever makes up request ids could make the gateway forget its own answers.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._given: OrderedDict[str, Answer] = OrderedDict()
        self._told: OrderedDict[str, Answer] = OrderedDict()

    def give(self, request_id: str, route: str, label: str, asked: Asked) -> None:
        """This gateway answered a request; the newest of one id is meant from now on."""
        if request_id in self._given:
            del self._given[request_id]
        self._put(self._given, request_id, Answer(route, label, asked))

    def find(self, request_id: str) -> Answer | None:
        """The answer to a request that was given here."""
        return self._given.get(request_id)

    def tell(self, request_id: str, route: str, label: str) -> Answer:
        """The answer that a client tells of."""
        known = self._told.get(request_id)
        if known is None or (known.route, known.label) != (route, label):
            known = Answer(route, label, asked=None)
            self._put(self._told, request_id, known)
        return known

    def _put(self, memory: OrderedDict[str, Answer], request_id: str, answer: Answer) -> None:
        memory[request_id] = answer
        if len(memory) > self._limit:
            memory.popitem(last=False)


def resolve(feedback: Feedback, answers: Answers, plan: Plan, caller: Caller) -> Answer:
    """The answer that is meant.

    Raises:
        ApiError: 404 where nobody knows it, or the caller may not; 409 where another version answered.
    """
    answer = answers.find(feedback.request_id)
    if answer is None and feedback.model_version is not None:
        route = _route_of(feedback.model_version, feedback.route, plan)
        answer = answers.tell(feedback.request_id, route, feedback.model_version) if route else None
    if answer is None or not caller.may_use(answer.route):
        raise errors.unknown_request(feedback.request_id, feedback.model_version)
    if feedback.model_version not in (None, answer.label):
        raise errors.other_version(feedback.request_id, answer.label)
    return answer


def _route_of(label: str, named: str | None, plan: Plan) -> str:
    """The route that has a model version now; empty where none has. Of the base model, which many have, it is named."""
    name = named or label.rpartition("@")[0]
    route = plan.routes.get(name)
    found = route is not None and any(target.label == label for target in route.targets.values())
    return name if found else ""


def event_id(feedback: Feedback, key: str, before: str) -> str:
    """The id of the event: the same for the same said again, so that nobody who reads the events counts it twice."""
    return str(uuid.uuid5(_EVENTS, "\0".join((feedback.request_id, key, feedback.digest(), before))))


def note(answer: Answer, key: str, digest: str) -> bool:
    """Kafka has what `key` said: remember it; True if it is the first of this key, which is the one that counts."""
    first = key not in answer.said
    if not first or len(answer.said) < _KEYS_PER_ANSWER:
        answer.said[key] = digest
        return first
    return False

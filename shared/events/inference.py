"""Facts about requests: samples of what was asked and answered, what people thought of answers, and what units met."""

from typing import Literal

from pydantic import Field

from shared.events.common import Name, Value
from shared.events.envelope import Payload, Topic, event


class SampledMessage(Value):
    """One message of a conversation, as plain text."""

    role: str
    content: str


@event("inference.sampled.v1", Topic.SAMPLES, producer="gateway", consumers=("drift",))
class InferenceSampled(Payload):
    """A request and its whole answer, drawn by chance from a route's traffic. Said at most once; samples may be lost.

    Attributes:
        model_version: that answered; None for the bare base model.
        api: ``chat`` for messages as they were sent; ``completion`` for a prompt, here one message of role ``user``.
        unit: fingerprint of the user or session under the route's salt, in hex; another salt gives another one.
        latency_seconds: from the whole request to the last byte of the answer.
        prompt_tokens: by the answer's `usage`; None where it had none. So `completion_tokens`.
        redacted: how often each kind of personal data was scrubbed; None where the route does not scrub.
        surprisal: mean negative log-probability of the answer's tokens, in nats; None where the client did not ask for
            log-probabilities.
    """

    request_id: str
    route: Name
    model_version: str | None
    api: Literal["chat", "completion"]
    messages: list[SampledMessage]
    answer: str
    finish_reason: str | None = None
    unit: str
    streamed: bool
    latency_seconds: float = Field(ge=0)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    redacted: dict[str, int] | None = None
    surprisal: float | None = Field(default=None, ge=0)

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Role and content of each message."""
        return [(message.role, message.content) for message in self.messages]

    def subject(self) -> str:
        return self.request_id


@event("feedback.received.v1", Topic.FEEDBACK, producer="gateway", consumers=("gateway",))
class FeedbackReceived(Payload):
    """Somebody judged an answer. The newest one of a (request_id, key) replaces those before it.

    Attributes:
        model_version: that answered; None for the bare base model.
        score: from -1, as bad as can be, to 1.
        correction: the answer as it should have been.
        key: id of the API key that the feedback came with; empty where the gateway has no keys.
        seen: this gateway answered the request itself. False: the client said which version it was.
    """

    request_id: str
    route: Name
    model_version: str | None
    score: float = Field(ge=-1, le=1)
    comment: str = ""
    correction: str = ""
    key: str = ""
    seen: bool

    def subject(self) -> str:
        return self.request_id


class MetUnits(Value):
    """Units that met the same with the same version.

    Attributes:
        model_version: as metrics call it: ``base`` for the bare base model, and the control by its own name.
        event: what they met, as in `CountedEvent`.
        seconds: the bound that they waited longer than, of an event that has bounds.
        times: it was their so-manieth at this gateway.
        units: fingerprints of users or sessions under the route's salt, in hex.
    """

    model_version: str
    event: str
    seconds: float | None = None
    times: int = Field(ge=1)
    units: list[str]


@event("units.met.v1", Topic.UNITS, producer="gateway", consumers=("rollout",))
class UnitsMet(Payload):
    """What units met at one gateway, each once for it. Several gateways may have met the same unit: whoever counts
    takes the first that it hears of. Said at least once while the gateway lives. The event's time is that of the first
    of them, which may be long past where Kafka was away.

    Attributes:
        salt: of the split that the fingerprints belong to.
    """

    route: Name
    salt: str
    met: list[MetUnits]

    def subject(self) -> str:
        return self.route

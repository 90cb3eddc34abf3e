"""Traffic for the drift service: rows of a dataset, samples that are like them, and samples that are not."""

import hashlib
from datetime import timedelta
from random import Random
from typing import Any

from shared.events import Event, InferenceSampled, ModelRef, ModelRegistered, PipelineApplied, SampledMessage, encode
from shared.messaging.broker import Outgoing
from shared.pipeline import PipelineSpec
from shared.profiles import ProfileBuilder, ReferenceProfile
from tests.support import facts
from tests.support.delivery import START

_THINGS = ("card", "transfer", "account", "refund", "invoice", "password", "loan", "parcel")
_VERBS = ("cancel", "find", "change", "close", "see", "send", "stop", "get")
_ANSWERS = ("card_arrival", "refund", "close_account", "transfer_pending")


def question(random: Random) -> str:
    """What people asked when the dataset was made."""
    verb, thing, other = random.choice(_VERBS), random.choice(_THINGS), random.choice(_THINGS)
    return f"How can I {verb} my {thing} for {other} {random.randrange(40)}?"


def other_question(random: Random) -> str:
    """What they ask after a change: another language, about other things."""
    thing = random.choice(("Heizung", "Lampe", "Waschmaschine"))
    return f"Wie kann ich die {thing} im Keller {random.randrange(40)} reparieren?"


def answer(random: Random) -> str:
    return random.choice(_ANSWERS)


def rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """A dataset's rows, each different."""
    random = Random(seed)
    return [{"prompt": f"{question(random)} ({number})", "completion": answer(random)} for number in range(count)]


def profile(count: int = 1000, seed: int = 1) -> ReferenceProfile:
    """The profile of such rows."""
    builder = ProfileBuilder()
    for row in rows(count, seed):
        builder.add(hashlib.sha256(row["prompt"].encode()).hexdigest(),
                    [("user", row["prompt"]), ("assistant", row["completion"])])
    built = builder.build()
    assert built is not None
    return built


def samples(count: int, *, seed: int = 2, drifted: bool = False, version: str | None = "intents@1",
            first: int = 0) -> list[Event[Any]]:
    """Sampled requests, a second apart, with ids that say their number."""
    random = Random(seed)
    made = []
    for number in range(first, first + count):
        asked = other_question(random) if drifted else f"{question(random)} ({number % 1000})"
        said = InferenceSampled(
            request_id=f"request-{number}", route="intents", model_version=version, api="chat",
            messages=[SampledMessage(role="user", content=asked)], answer=answer(random), unit="0" * 16,
            streamed=False, latency_seconds=0.1,
        )
        made.append(Event(data=said, source="gateway", time=START + timedelta(seconds=number),
                          correlation_id=said.request_id, sequence=1, id=f"event-{number}"))
    return made


def record(event: Event[Any]) -> Outgoing:
    """The event as a producer writes it."""
    message = encode(event)
    headers = tuple((name, value) for name, value in message.headers.items())
    return Outgoing(event.data.TOPIC.value, event.subject.encode(), message.value or b"", headers)


def pipeline_applied(version: int = 1, **triggers: Any) -> PipelineApplied:
    spec = PipelineSpec.model_validate({"baseModel": "tiny", "capture": {"share": 1}, "triggers": triggers})
    return PipelineApplied(pipeline="intents", version=version, digest="sha256:" + "d" * 64, spec=spec)


def model_registered(number: int = 1) -> ModelRegistered:
    model = ModelRef(model_version=f"intents@{number}", base_model="tiny",
                     artifact=facts.artifact("adapters", number), dataset=facts.dataset_ref(number))
    return ModelRegistered(model=model, pipeline="intents", pipeline_version=1, run_id=f"run-{number}",
                           evaluation_id=f"eval-{number}", base_model_digest=facts.BASE_DIGEST)

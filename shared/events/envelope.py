"""The envelope that every fact travels in: CloudEvents 1.0 on Kafka, binary mode.

Payloads are pydantic classes that know their type, topic and subject; `Event` adds who said it, when, and how it
belongs to the loop. The CloudEvents SDK does the encoding; this module only maps names, because CloudEvents
extension names must be lower case and the SDK's headers are a plain dict.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import PermanentError

SOURCE_PREFIX = "/tuneloop/"


class Topic(StrEnum):
    """One topic per aggregate kind; each is written by one service and keyed by aggregate id."""

    PIPELINES = "tuneloop.pipelines"
    DATASETS = "tuneloop.datasets"
    RUNS = "tuneloop.runs"
    EVALUATIONS = "tuneloop.evaluations"
    MODELS = "tuneloop.models"
    ROLLOUTS = "tuneloop.rollouts"
    ROUTES = "tuneloop.routes"
    ADAPTERS = "tuneloop.adapters"
    SAMPLES = "tuneloop.samples"
    FEEDBACK = "tuneloop.feedback"
    UNITS = "tuneloop.units"
    DRIFT = "tuneloop.drift"

    @property
    def dlq(self) -> str:
        """Where unparseable and dead records of this topic go."""
        return f"{self.value}.dlq"


class Payload(BaseModel):
    """Base of all event payloads. Consumers ignore fields that they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str]
    TOPIC: ClassVar[Topic]
    PRODUCER: ClassVar[str]
    CONSUMERS: ClassVar[tuple[str, ...]]

    def subject(self) -> str:
        """The aggregate id that this fact is about; also the Kafka key."""
        raise NotImplementedError(f"{type(self).__name__} must name its aggregate")


P = TypeVar("P", bound=Payload)
_REGISTRY: dict[str, type[Payload]] = {}
_TYPE = re.compile(r"^[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*\.v[1-9][0-9]*$")


def event(
    type_: str, topic: Topic, *, producer: str, consumers: tuple[str, ...]
) -> Callable[[type[P]], type[P]]:
    """Class decorator that gives a payload its type and its place on Kafka, and registers it."""

    def register(cls: type[P]) -> type[P]:
        if not _TYPE.match(type_) or type_ in _REGISTRY:
            raise ValueError(f"event type {type_!r} is malformed or already taken")
        cls.TYPE, cls.TOPIC, cls.PRODUCER, cls.CONSUMERS = type_, topic, producer, consumers
        _REGISTRY[type_] = cls
        return cls

    return register


def payload_types() -> Mapping[str, type[Payload]]:
    """All registered payload classes by event type."""
    return dict(_REGISTRY)


@dataclass(frozen=True)
class Event(Generic[P]):
    """One fact.

    Attributes:
        data: the payload.
        source: the service that says it, for example ``trainer``.
        time: when it became true, UTC.
        correlation_id: one whole loop, from a dataset to its rollout.
        causation_id: the id of the event that led to this one, if any.
        sequence: position among the facts about this aggregate from this source, from 1; 0 where unknown.
        traceparent: W3C trace context of the work that produced it.
    """

    data: P
    source: str
    time: datetime
    correlation_id: str
    causation_id: str | None = None
    sequence: int = 0
    traceparent: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def type(self) -> str:
        return self.data.TYPE

    @property
    def subject(self) -> str:
        return self.data.subject()


class UnknownEventTypeError(PermanentError):
    """A well-formed CloudEvent of a type that this version does not know. Consumers skip it."""


class MalformedEventError(PermanentError):
    """A record that is not a valid event of ours. Consumers send it to the dead-letter topic."""


def encode(item: Event[Any]) -> KafkaMessage:
    """The Kafka record of an event: headers, key (the subject) and JSON value."""
    attributes: dict[str, Any] = {
        "id": item.id,
        "source": SOURCE_PREFIX + item.source,
        "type": item.type,
        "subject": item.subject,
        "time": item.time,
        "datacontenttype": "application/json",
        "correlationid": item.correlation_id,
        "sequence": str(item.sequence),
    }
    if item.causation_id:
        attributes["causationid"] = item.causation_id
    if item.traceparent:
        attributes["traceparent"] = item.traceparent
    cloud_event = CloudEvent(attributes, item.data.model_dump(mode="json"))
    return to_binary(cloud_event, JSONFormat(), key_mapper=lambda e: e.get_subject())


def decode(value: bytes | None, headers: Mapping[str, bytes], key: bytes | None) -> Event[Any]:
    """The event in a Kafka record.

    Raises:
        UnknownEventTypeError: a CloudEvent of a type that is not ours.
        MalformedEventError: anything else that is wrong, with the field that is.
    """
    try:
        cloud_event = from_binary(KafkaMessage(headers=dict(headers), key=key, value=value or b""), JSONFormat(),
                                  event_factory=CloudEvent)
        attributes = cloud_event.get_attributes()
        data = cloud_event.get_data()
    except Exception as error:
        raise MalformedEventError(f"not a CloudEvent in Kafka binary mode: {error}") from error
    cls = _REGISTRY.get(cloud_event.get_type())
    if cls is None:
        raise UnknownEventTypeError(f"unknown event type {cloud_event.get_type()!r}")
    if not isinstance(data, dict):
        # The SDK hands over bytes that are not JSON as they are.
        raise MalformedEventError(f"{cls.TYPE}: the value is not a JSON object: {str(data)[:80]!r}")
    try:
        # Newer producers may say more than we know, also inside nested classes that refuse typos from people.
        payload = cls.model_validate(data, extra="ignore")
        sequence = int(attributes.get("sequence") or 0)
    except (ValidationError, ValueError) as error:
        raise MalformedEventError(f"{cls.TYPE}: {error}") from error
    time = cloud_event.get_time()
    if time is None:
        raise MalformedEventError(f"{cls.TYPE}: the time attribute is missing")
    return Event(
        data=payload,
        source=cloud_event.get_source().removeprefix(SOURCE_PREFIX),
        time=time,
        correlation_id=str(attributes.get("correlationid") or cloud_event.get_id()),
        causation_id=attributes.get("causationid"),
        sequence=sequence,
        traceparent=attributes.get("traceparent"),
        id=cloud_event.get_id(),
    )

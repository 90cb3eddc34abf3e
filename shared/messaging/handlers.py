"""How a service says which events it acts on: `@on(TrainingCompleted)` in its handlers.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlmodel import Session

from shared.clock import Clock
from shared.events import Event, Payload
from shared.messaging.outbox import emit


@dataclass
class HandlerContext:
    """What a handler may use: the database, the time, and a way to say what follows. No network.

    Attributes:
        session: of the transaction that also marks the event as handled.
        event: the one being handled.
    """

    session: Session
    clock: Clock
    event: Event[Any]

    def emit(self, payload: Payload) -> Event[Any]:
        """Say a fact that follows from this event; it belongs to the same loop."""
        return emit(
            self.session,
            payload,
            source=payload.PRODUCER,
            clock=self.clock,
            correlation_id=self.event.correlation_id,
            causation_id=self.event.id,
        )


Handler = Callable[[HandlerContext, Event[Any]], None]
H = TypeVar("H", bound=Callable[..., None])


class Handlers:
    """The handlers of one service, by event type.

    Args:
        consumer: the service's name, as in its inbox and its consumer group.
    """

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        self._by_type: dict[str, Handler] = {}
        self._topics: set[str] = set()

    def on(self, *payload_types: type[Payload]) -> Callable[[H], H]:
        """Decorator: the function handles these facts. One function a type, so that order and retries are clear."""

        def register(function: H) -> H:
            for cls in payload_types:
                if cls.TYPE in self._by_type:
                    raise ValueError(f"{self.consumer}: two handlers for {cls.TYPE}; call one from the other")
                self._by_type[cls.TYPE] = function
                self._topics.add(cls.TOPIC.value)
            return function

        return register

    def get(self, type_: str) -> Handler | None:
        """The handler of an event type, or None where this service does not act on it."""
        return self._by_type.get(type_)

    @property
    def types(self) -> Sequence[str]:
        """The event types that have a handler."""
        return sorted(self._by_type)

    @property
    def topics(self) -> Sequence[str]:
        """The topics that those events come from."""
        return sorted(self._topics)


def topics_of(handlers: Handlers) -> list[str]:
    """The topics that a service must subscribe to."""
    return list(handlers.topics)

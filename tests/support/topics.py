"""What is on a topic."""

from contextlib import closing
from typing import Any

from shared.events import Event, Topic, decode
from shared.messaging.broker import KafkaSource
from tests.support.wait import eventually


def events_on(bootstrap: str, topic: Topic) -> list[Event[Any]]:
    """All events of a topic, from its beginning to its end."""
    events: list[Event[Any]] = []
    with closing(KafkaSource(bootstrap, [topic.value], group=None)) as source:

        def read_to_end() -> bool:
            events.extend(decode(r.value, dict(r.headers), r.key) for r in source.poll(0.1))
            return source.at_end()

        eventually(read_to_end, what=f"the end of {topic.value}")
    return events

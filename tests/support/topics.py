"""Events onto topics, and what is on them."""

from contextlib import closing
from typing import Any

from kafka import KafkaProducer

from shared.events import Event, Payload, Topic, decode, encode
from shared.messaging.broker import KafkaSource
from tests.support.routes import fact
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


def publish(bootstrap: str, *payloads: Payload) -> None:
    """Say some facts, each a second after the one before."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, batch_size=0, acks="all")
    for second, payload in enumerate(payloads):
        message = encode(fact(payload, second=second, sequence=second + 1))
        headers = [(name, value) for name, value in message.headers.items()]
        producer.send(payload.TOPIC.value, key=str(message.key).encode(), value=message.value, headers=headers)
    producer.flush(10)
    producer.close()

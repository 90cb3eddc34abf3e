"""Making the topics on a broker. In production the platform declares them; on one machine and in tests this does."""

from collections.abc import Iterable

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from shared.events import Topic


def create_topics(bootstrap: str, *, partitions: int = 1, topics: Iterable[Topic] = tuple(Topic)) -> None:
    """Create every topic and its dead-letter topic where they do not exist yet.

    Args:
        partitions: of each topic; order is kept per key at any number.
    """
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        for name in [name for topic in topics for name in (topic.value, topic.dlq)]:
            try:
                admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])
            except TopicAlreadyExistsError:
                continue
    finally:
        admin.close()

"""Making the topics on a broker: ``python -m shared.messaging.topics BOOTSTRAP``.

On Kubernetes the platform declares them (k8s/base/kafka/topics.yaml); on one machine, in compose and in tests this
does.
"""

import sys
from collections.abc import Iterable

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from shared.events import Topic
from shared.events.topics import declared


def create_topics(bootstrap: str, *, partitions: int = 1, topics: Iterable[Topic] = tuple(Topic)) -> None:
    """Create every topic and its dead-letter topic where they do not exist yet.

    Args:
        partitions: of each topic; order is kept per key at any number.
    """
    _create(bootstrap, [NewTopic(name, num_partitions=partitions, replication_factor=1)
                        for topic in topics for name in (topic.value, topic.dlq)])


def create_declared_topics(bootstrap: str) -> list[str]:
    """Create the topics that do not exist yet, each as `shared.events.topics` declares it; their names."""
    return _create(bootstrap, [NewTopic(name, policy.partitions, 1, topic_configs=policy.config())
                               for name, policy in declared().items()])


def _create(bootstrap: str, topics: Iterable[NewTopic]) -> list[str]:
    """Create the topics that do not exist yet; their names."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    made = []
    try:
        for topic in topics:
            try:
                admin.create_topics([topic])
                made.append(topic.name)
            except TopicAlreadyExistsError:
                continue
    finally:
        admin.close()
    return made


def main(arguments: list[str]) -> int:
    """Make the declared topics on one broker; the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m shared.messaging.topics HOST:PORT\n")
        return 2
    try:
        made = create_declared_topics(arguments[0])
    except KafkaError as error:
        sys.stderr.write(f"the broker at {arguments[0]} could not make the topics: {error}\n")
        return 1
    sys.stdout.write(f"topics made: {', '.join(made) or 'none; all of them exist'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

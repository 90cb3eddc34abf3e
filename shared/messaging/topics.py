"""Making the topics: ``python -m shared.messaging.topics HOST:PORT [REPLICAS]``, TLS and login as in its settings.

On Kubernetes the platform declares them (k8s/base/kafka/topics.yaml); on one machine, in compose and in tests this
does.
"""

import sys
from collections.abc import Iterable

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError
from pydantic import ValidationError

from shared.events import Topic
from shared.events.topics import declared
from shared.messaging.security import PLAINTEXT, KafkaSecurity, UnusableCertificateError
from shared.settings import KafkaSettings


def create_topics(bootstrap: str, *, partitions: int = 1, topics: Iterable[Topic] = tuple(Topic)) -> None:
    """Create every topic and its dead-letter topic where they do not exist yet.

    Args:
        partitions: of each topic; order is kept per key at any number.
    """
    _create(bootstrap, [NewTopic(name, num_partitions=partitions, replication_factor=1)
                        for topic in topics for name in (topic.value, topic.dlq)])


def create_declared_topics(bootstrap: str, security: KafkaSecurity = PLAINTEXT, replicas: int = 1) -> list[str]:
    """Create the topics that do not exist yet, each as `shared.events.topics` declares it; their names."""
    return _create(bootstrap, [NewTopic(name, policy.partitions, replicas, topic_configs=policy.config())
                               for name, policy in declared().items()], security)


def _create(bootstrap: str, topics: Iterable[NewTopic], security: KafkaSecurity = PLAINTEXT) -> list[str]:
    """Create the topics that do not exist yet; their names."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, **security.options())
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
    """Make the declared topics, on one broker or with so many replicas; the exit code."""
    bootstrap, *rest = arguments or ["-"]
    if bootstrap.startswith("-") or len(rest) > 1 or not all(part.isdecimal() for part in rest):
        sys.stderr.write("usage: python -m shared.messaging.topics HOST:PORT [REPLICAS]\n")
        return 2
    try:
        made = create_declared_topics(bootstrap, KafkaSecurity.of(KafkaSettings()), *map(int, rest))
    except ValidationError as error:
        sys.stderr.write(f"the settings are wrong: {error}\n")
        return 2
    except (KafkaError, UnusableCertificateError) as error:
        sys.stderr.write(f"the broker at {bootstrap} could not make the topics: {error}\n")
        return 1
    sys.stdout.write(f"topics made: {', '.join(made) or 'none; all of them exist'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

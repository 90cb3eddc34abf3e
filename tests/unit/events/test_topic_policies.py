"""What stays on the broker, and for how long."""

from datetime import timedelta

from shared.events import Topic, payload_types
from shared.events.topics import DLQ_RETENTION, POLICIES, declared


def test_every_topic_is_declared_with_its_dead_letter_topic() -> None:
    assert set(declared()) == {name for topic in Topic for name in (topic.value, topic.dlq)}


def test_what_people_wrote_stays_days_and_not_months() -> None:
    for topic in (Topic.SAMPLES, Topic.FEEDBACK):
        retention = POLICIES[topic].retention
        assert retention is not None
        assert retention <= timedelta(days=7)
        assert int(declared()[topic.dlq].config()["retention.ms"]) <= 7 * 86_400_000


def test_only_topics_whose_newest_fact_says_all_are_compacted() -> None:
    compacted = {topic for topic, policy in POLICIES.items() if policy.compacted}
    assert compacted == {Topic.PIPELINES, Topic.ROUTES, Topic.ADAPTERS}
    for topic in compacted - {Topic.ADAPTERS}:
        kinds = [cls for cls in payload_types().values() if cls.TOPIC is topic]
        assert len(kinds) == 1, f"{topic}: of two kinds under one key, the newer would remove the other"


def test_kafkas_words_for_it() -> None:
    assert POLICIES[Topic.MODELS].config() == {"cleanup.policy": "delete", "retention.ms": "-1"}
    assert POLICIES[Topic.SAMPLES].config() == {"cleanup.policy": "delete", "retention.ms": "259200000"}
    assert POLICIES[Topic.ADAPTERS].config() == {"cleanup.policy": "compact", "min.compaction.lag.ms": "604800000"}
    assert timedelta(days=30) == DLQ_RETENTION

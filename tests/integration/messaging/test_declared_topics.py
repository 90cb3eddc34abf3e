"""The topics as compose makes them, on a broker of their own."""

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from shared.events.topics import declared
from shared.messaging.topics import main
from tests.support.broker import start_tansu

pytestmark = pytest.mark.integration


def test_topics_are_made_once_with_their_partitions(capsys: pytest.CaptureFixture[str]) -> None:
    with start_tansu(storage="memory://tansu/") as bootstrap:
        assert main([bootstrap]) == 0
        assert "topics made: tuneloop.pipelines," in capsys.readouterr().out
        assert main([bootstrap]) == 0
        assert capsys.readouterr().out == "topics made: none; all of them exist\n"
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            found = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(list(declared()))}
        finally:
            admin.close()
    assert found == {name: policy.partitions for name, policy in declared().items()}


@pytest.mark.parametrize("wrong", [[], ["-h"], ["kafka:9092", "three"], ["kafka:9092", "3", "4"]])
def test_a_wrong_call_is_told_the_right_one(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(wrong) == 2
    assert "usage: python -m shared.messaging.topics" in capsys.readouterr().err


def test_a_broker_is_asked_for_as_many_replicas_as_were_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' broker has one copy of everything, so the request is what can be seen."""
    asked: list[NewTopic] = []
    monkeypatch.setattr(KafkaAdminClient, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(KafkaAdminClient, "create_topics", lambda _, topics: asked.extend(topics))
    monkeypatch.setattr(KafkaAdminClient, "close", lambda _: None)
    assert main(["kafka:9092", "3"]) == 0
    assert {topic.replication_factor for topic in asked} == {3}
    assert {topic.name for topic in asked} == set(declared())

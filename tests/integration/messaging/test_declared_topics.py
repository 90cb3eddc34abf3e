"""The topics as compose makes them, on a broker of their own."""

import pytest
from kafka.admin import KafkaAdminClient

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


def test_a_wrong_call_is_told_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: python -m shared.messaging.topics" in capsys.readouterr().err

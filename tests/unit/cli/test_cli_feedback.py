"""From samples and words about answers to what is reviewed and what is trained on."""

from datetime import UTC, datetime, timedelta
from typing import Any

from services.cli.feedback import Collected, dataset_rows
from shared.events import Event, FeedbackReceived, InferenceSampled, Payload, SampledMessage

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(data: Payload, second: float = 0) -> Event[Any]:
    return Event(data=data, source="gateway", time=NOON + timedelta(seconds=second), correlation_id="c", sequence=1)


def sample(request_id: str = "a", answer: str = "refund") -> Event[Any]:
    asked = [SampledMessage(role="system", content="be brief"), SampledMessage(role="user", content="where is it?")]
    return event(InferenceSampled(
        request_id=request_id, route="r", model_version="r@1", api="chat", messages=asked, answer=answer, unit="0",
        streamed=False, latency_seconds=1,
    ))


def word(score: float, second: float = 0, request_id: str = "a", **said: Any) -> Event[Any]:
    said = {"route": "r", "model_version": "r@1", **said}
    return event(FeedbackReceived(request_id=request_id, score=score, seen=True, **said), second)


def collected(*events: Event[Any]) -> Collected:
    found = Collected()
    for one in events:
        found.take(one)
    return found


def rows(*events: Event[Any], min_score: float = 0.5) -> list[dict[str, Any]]:
    return list(dataset_rows(collected(*events).judged("r"), min_score=min_score))


def test_a_key_s_newest_word_counts_in_whichever_order_they_come() -> None:
    for events in ([word(1, 1), word(-1, 2)], [word(-1, 2), word(1, 1)], [word(-1, 2), word(1, 1), word(-1, 2)]):
        [one] = collected(*events).judged()
        assert (one.score, one.sample) == (-1, None)


def test_several_people_are_one_judgement_with_the_newest_correction() -> None:
    [one] = collected(
        sample(), word(1, 1, key="x", correction="old", comment="so"), word(-1, 2, key="y", correction="new"),
        word(-0.6, 3, key="z", comment="hm"),
    ).judged()
    assert (round(one.score, 9), one.correction, one.comments) == (-0.2, "new", ("hm", "so"))


def test_the_last_judged_comes_first_and_other_routes_are_left_out() -> None:
    found = collected(word(1, 1, "a"), word(1, 3, "b"), word(1, 2, "c", route="s", model_version=None))
    assert [one.request_id for one in found.judged()] == ["b", "c", "a"]
    assert [one.request_id for one in found.judged("r")] == ["b", "a"]
    assert found.judged("s")[0].model_version == "base"


def test_a_row_is_the_conversation_with_the_answer_as_it_should_have_been() -> None:
    asked = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "where is it?"}]
    assert rows(sample(), word(-1, correction="card")) == [
        {"messages": [*asked, {"role": "assistant", "content": "card"}]}
    ]
    assert rows(sample(), word(1)) == [{"messages": [*asked, {"role": "assistant", "content": "refund"}]}]


def test_what_was_not_liked_or_not_sampled_is_no_row() -> None:
    assert rows(sample(), word(0.4)) == []
    assert len(rows(sample(), word(0.4), min_score=0.4)) == 1
    assert rows(word(1, correction="card")) == []
    assert rows(sample()) == []

"""Facts become the route table whatever their order, and bad ones change nothing."""

import itertools
from collections.abc import Iterable

import pytest

from services.gateway import elsewhere, keeper
from services.gateway.table import REMEMBERED_UNLOADED, RefusedFactError, RouteTable, apply
from shared.events import AdapterFailed, Payload, RouteTarget, RouteUpdated
from shared.events.envelope import Event, payload_types
from tests.support.routes import adapter_ref, canary, fact, loaded, ready, route, target, unloaded

A = "http://127.0.0.1:1"
B = "http://127.0.0.1:2"


def table_of(events: Iterable[Event[Payload]]) -> RouteTable:
    table = RouteTable()
    for event in events:
        table = apply(table, event)
    return table


def test_any_order_and_any_repetition_gives_the_same_table() -> None:
    events = [
        fact(route("intents", revision=1)),
        fact(canary("intents", None, "intents@1", 1000, revision=2)),
        fact(ready("r0", A), second=1),
        fact(loaded("r0", A, "intents@1"), second=2, sequence=1),
        fact(unloaded("r0", A, "intents@1"), second=3, sequence=2),
    ]
    expected = table_of(events)
    assert expected.routes["intents"].revision == 2
    assert not expected.replicas["r0"].serves("intents@1", adapter_ref("intents@1").digest)
    for order in itertools.permutations(events):
        assert table_of([*order, *order]) == expected


def test_a_fact_without_news_returns_the_same_object() -> None:
    events = [fact(route("intents")), fact(ready("r0", A)), fact(loaded("r0", A, "intents@1"))]
    table = table_of(events)
    assert all(apply(table, event) is table for event in events)


def test_facts_of_others_change_nothing() -> None:
    failed = AdapterFailed(
        replica="r0", endpoint=A, base_model="tiny", model_version="intents@1", digest=adapter_ref("x").digest,
        reason="rank", permanent=True,
    )
    table = RouteTable()
    assert apply(table, fact(failed)) is table


def test_a_replica_that_moved_is_asked_at_its_new_place() -> None:
    adapter = loaded("r0", A, "intents@1")
    table = table_of([fact(ready("r0", A), second=1), fact(adapter, second=2), fact(ready("r0", B), second=3)])
    assert table.replicas["r0"].endpoint == B
    assert table.replicas["r0"].serves("intents@1", adapter_ref("intents@1").digest)
    assert apply(table, fact(ready("r0", A), second=1)) is table


def test_an_adapter_with_other_weights_is_not_confirmed() -> None:
    table = table_of([fact(loaded("r0", A, "intents@1"))])
    assert table.replicas["r0"].serves("intents@1", adapter_ref("intents@1").digest)
    assert not table.replicas["r0"].serves("intents@1", adapter_ref("other@1").digest)


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        ([target(None, "candidate", 10_000)], "0 stable"),
        ([target(None, "stable", 9_999)], "add up to 9999"),
        ([target("a@1", "stable", 5_000), target("a@2", "stable", 5_000)], "2 stable"),
        ([target(None, "stable", 0), target("a@1", "candidate", 5_000), target("a@2", "candidate", 5_000)],
         "more than one candidate"),
        ([target("../v1/unload_lora_adapter", "stable", 10_000)], "not a model version"),
        ([RouteTarget(model_version="a@1", adapter=None, role="stable", weight=10_000)], "has no adapter"),
    ],
)
def test_a_route_that_cannot_be_served_is_refused(targets: list[RouteTarget], reason: str) -> None:
    table = table_of([fact(route("intents", revision=1))])
    bad = route("intents", *targets, revision=2)
    with pytest.raises(RefusedFactError, match=reason):
        apply(table, fact(bad))


@pytest.mark.parametrize("endpoint", ["", "file:///etc/passwd", "127.0.0.1:8000", "http://"])
def test_an_endpoint_that_is_no_http_url_is_refused(endpoint: str) -> None:
    with pytest.raises(RefusedFactError, match="not an http URL"):
        apply(RouteTable(), fact(ready("r0", endpoint)))


def test_memory_of_unloaded_adapters_is_bounded() -> None:
    count = REMEMBERED_UNLOADED + 50
    table = table_of(fact(unloaded("r0", A, f"intents@{n}"), second=n) for n in range(1, count + 1))
    assert len(table.replicas["r0"].adapters) == REMEMBERED_UNLOADED
    assert f"intents@{count}" in table.replicas["r0"].adapters


def test_the_gateway_reads_the_topics_of_the_facts_that_are_for_it() -> None:
    assert {cls.TOPIC for cls in payload_types().values() if "gateway" in cls.CONSUMERS} == {
        *keeper.TOPICS, *elsewhere.TOPICS,
    }


def test_the_table_survives_its_json() -> None:
    table = table_of([fact(canary("intents", None, "intents@1", 1000)), fact(loaded("r0", A, "intents@1"))])
    assert RouteTable.model_validate_json(table.model_dump_json()) == table
    assert isinstance(table.routes["intents"], RouteUpdated)

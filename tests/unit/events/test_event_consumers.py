"""docs/events.md tells who listens: what it says is what the services' handlers do."""

import importlib

import pytest

from shared.events import payload_types

WITH_HANDLERS = ("data_ingest", "drift", "evaluator", "registry", "rollout", "serving", "trainer")
# Samples have a loop of their own: they do not go through the inbox.
WITH_LOOPS = {"drift": {"inference.sampled.v1"}}


@pytest.mark.parametrize("service", WITH_HANDLERS)
def test_a_service_handles_exactly_the_events_that_name_it(service: str) -> None:
    handlers = importlib.import_module(f"services.{service}.handlers").handlers
    named = sorted(type_ for type_, cls in payload_types().items() if service in cls.CONSUMERS)
    named = sorted(set(named) - WITH_LOOPS.get(service, set()))
    assert sorted(handlers.types) == named
    assert handlers.consumer == service


def test_one_service_writes_each_topic() -> None:
    writers: dict[str, set[str]] = {}
    for cls in payload_types().values():
        writers.setdefault(cls.TOPIC, set()).add(cls.PRODUCER)
    assert all(len(names) == 1 for names in writers.values()), writers

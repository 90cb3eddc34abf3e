"""Which events a service acts on."""

import pytest

from shared.events import DatasetPrepared, DatasetRejected, Event, PipelineApplied
from shared.messaging import HandlerContext, Handlers, topics_of


def test_knows_its_types_and_topics() -> None:
    handlers = Handlers("trainer")

    @handlers.on(DatasetPrepared, DatasetRejected)
    def on_dataset(ctx: HandlerContext, event: Event[DatasetPrepared | DatasetRejected]) -> None: ...

    @handlers.on(PipelineApplied)
    def on_pipeline(ctx: HandlerContext, event: Event[PipelineApplied]) -> None: ...

    assert handlers.types == ["dataset.prepared.v1", "dataset.rejected.v1", "pipeline.applied.v1"]
    assert topics_of(handlers) == ["tuneloop.datasets", "tuneloop.pipelines"]
    assert handlers.get("dataset.rejected.v1") is on_dataset
    assert handlers.get("model.registered.v1") is None


def test_refuses_a_second_handler_for_a_type() -> None:
    handlers = Handlers("trainer")

    @handlers.on(PipelineApplied)
    def first(ctx: HandlerContext, event: Event[PipelineApplied]) -> None: ...

    with pytest.raises(ValueError, match=r"trainer: two handlers for pipeline\.applied\.v1"):

        @handlers.on(PipelineApplied)
        def second(ctx: HandlerContext, event: Event[PipelineApplied]) -> None: ...

"""The drift service's sample loop without S3 and Kafka."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine
from sqlmodel import select

from services.drift.models import AlarmRow, Series
from services.drift.references import Reference
from services.drift.samples import OnFull, SampleLoop
from services.drift.window import SeriesState
from shared.clock import VirtualClock
from shared.db import reading
from shared.events import DriftDetected, Event, Topic
from tests.support import drift, facts
from tests.support.delivery import START
from tests.support.memory_broker import MemoryBroker

PROFILE = drift.profile()


@dataclass
class Known:
    """References without S3."""

    problems: dict[str, Exception] = field(default_factory=dict)

    def get(self, model_version: str) -> Reference | None:
        if model_version in self.problems:
            raise self.problems[model_version]
        if model_version == "intents@99":
            return None
        return Reference("intents", facts.artifact("datasets", 1).digest, PROFILE, PROFILE.features)


@dataclass
class Stand:
    """The sample loop over a broker that keeps records in a list."""

    engine: Engine
    references: Known = field(default_factory=Known)
    broker: MemoryBroker = field(default_factory=lambda: MemoryBroker(partitions=1))
    on_full: OnFull | None = None

    def write(self, *events: Event[Any]) -> None:
        for event in events:
            self.broker.append(drift.record(event))

    def run(self) -> None:
        """Everything that is there, as a process that has just started."""
        loop = SampleLoop(
            engine=self.engine, references=self.references,  # type: ignore[arg-type]
            clock=VirtualClock(START), bootstrap="", group="g", on_full=self.on_full,
        )
        source = self.broker.source([Topic.SAMPLES.value], group="g")
        while loop.step(source):
            pass

    def series(self, version: str = "intents@1") -> SeriesState:
        with reading(self.engine) as session:
            return SeriesState.model_validate(session.get_one(Series, version).data)

    def alarms(self) -> list[DriftDetected]:
        with reading(self.engine) as session:
            return [DriftDetected.model_validate(row.fact) for row in session.exec(select(AlarmRow))]

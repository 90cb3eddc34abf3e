"""From Kafka to windows: counts each sample once, compares full windows, and says what was found.

Samples do not go through the inbox: it keeps what it got, and conversations are not for keeping. Here a sample becomes
counts in the transaction that also remembers its event's id, before its offset is committed. So a crash loses
none and counts none twice, and what drift was found is said once.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Engine
from sqlmodel import Session, col, delete, func, select

from services.drift import metrics, window
from services.drift.models import AlarmRow, Pipeline, SeenSample, Series
from services.drift.references import NoReferenceError, Reference, References
from services.drift.window import Sample, SeriesState
from shared.clock import Clock
from shared.db import transaction
from shared.errors import TemporaryError
from shared.events import (
    DriftDetected,
    DriftEvidence,
    Event,
    InferenceSampled,
    MalformedEventError,
    Topic,
    UnknownEventTypeError,
    decode,
)
from shared.messaging import emit
from shared.messaging.broker import KafkaSource, Link, Record, RecordSource
from shared.messaging.inbox import dead_letter_unreadable, insert_new
from shared.messaging.metrics import show_lag
from shared.messaging.security import PLAINTEXT, KafkaSecurity
from shared.pipeline import OnDrift
from shared.profiles import last_question
from shared.telemetry import get_logger

log = get_logger(__name__)

CONSUMER = "drift"
# Samples have a consumer group of their own, beside that of the facts.
GROUP = "tuneloop-drift-samples"
POLL_SECONDS = 0.5
RETRY_SECONDS = 1.0
OnFull: TypeAlias = Callable[[Session, Series, int, window.Window], None]
# Far more than a consumer reads at once, and so more than can be delivered again.
_REMEMBERED = 20_000


class SampleLoop:
    """Reads `tuneloop.samples`.

    Args:
        on_full: what else shall happen to a full window, in the same transaction. With it, windows hold their texts.
        open_source: makes the source; Kafka by default.
    """

    name = "samples"

    def __init__(
        self, *, engine: Engine, references: References, clock: Clock, bootstrap: str, group: str,
        session_timeout_ms: int = 10_000, security: KafkaSecurity = PLAINTEXT, on_full: OnFull | None = None,
        open_source: Callable[[], RecordSource] | None = None,
    ) -> None:
        self._engine = engine
        self._references = references
        self._clock = clock
        self._on_full = on_full
        self._link = Link(self.name)
        self._open = open_source or (
            lambda: KafkaSource(
                bootstrap, [Topic.SAMPLES.value], group=group, session_timeout_ms=session_timeout_ms, security=security
            )
        )

    def run(self, stop: threading.Event) -> None:
        """Count until `stop`. Where Kafka or S3 is away, the same samples are read again when it is back."""
        while not stop.is_set():
            try:
                with closing(self._open()) as source:
                    while not stop.is_set():
                        self.step(source)
                        self._link.up()
            except TemporaryError as error:
                self._link.down(error)
                self._clock.wait(stop, RETRY_SECONDS)

    def step(self, source: RecordSource) -> int:
        """Take one batch; the number of records in it."""
        records = source.poll(POLL_SECONDS)
        if records:
            self._take(records)
            source.commit(records)
        show_lag([Topic.SAMPLES.value], source)
        return len(records)

    def _take(self, records: Sequence[Record]) -> None:
        events, unreadable = _read(records)
        outcomes = list[tuple[str, str]]()
        references, problems = self._find({event.data.model_version for event in events} - {None})
        with transaction(self._engine) as session:
            for record, error in unreadable:
                dead_letter_unreadable(session, CONSUMER, record, error, self._clock.now())
            new = _new(session, [event.id for event in events])
            batch = _Batch(session, self._clock, references, problems, on_full=self._on_full)
            for event in events:
                outcomes.append((event.data.route, batch.count(event) if event.id in new else "duplicate"))
                new.discard(event.id)
            batch.save()
        for route, outcome in outcomes:
            metrics.SAMPLES.labels(route, outcome).inc()
        batch.publish()

    def _find(self, versions: set[Any]) -> tuple[Mapping[str, Reference], Mapping[str, str]]:
        """References by model version, and why there is none for others that are known."""
        references, problems = dict[str, Reference](), dict[str, str]()
        for version in sorted(versions):
            try:
                found = self._references.get(version)
            except NoReferenceError as error:
                problems[version] = str(error)
                continue
            if found is not None:
                references[version] = found
        return references, problems


@dataclass
class _Open:
    """A series while its batch is counted."""

    row: Series
    state: SeriesState
    policy: OnDrift
    windows: int = 0


class _Batch:
    """One transaction's samples: each series is read once and written once."""

    def __init__(
        self, session: Session, clock: Clock, references: Mapping[str, Reference], problems: Mapping[str, str], *,
        on_full: OnFull | None,
    ) -> None:
        self._session, self._clock = session, clock
        self._references, self._problems, self._on_full = references, problems, on_full
        self._series: dict[str, _Open] = {}
        self._alarms: list[tuple[str, str]] = []

    def count(self, event: Event[InferenceSampled]) -> str:
        """Count one sample; the outcome for the metric."""
        sample = event.data
        if sample.model_version is None:
            return "base_model"
        if sample.model_version in self._problems:
            self._open(sample).row.problem = self._problems[sample.model_version]
            return "no_reference"
        reference = self._references.get(sample.model_version)
        if reference is None:
            return "unknown_version"
        series = self._open(sample)
        series.row.problem = ""
        taken = Sample(
            sample.request_id, event.time, reference.place(sample),
            text=last_question(sample.asked) if self._on_full else None,
        )
        series.state = window.take(series.state, taken, reference.features)
        if window.is_full(series.state, series.policy):
            self._close(series, reference)
        return "counted"

    def _close(self, series: _Open, reference: Reference) -> None:
        now, full = self._clock.now(), series.state.window
        state = window.close(series.state, reference.features, now)
        series.state, evidence = window.alarm(state, series.policy, now)
        series.windows += 1
        if self._on_full is not None:
            self._on_full(self._session, series.row, state.windows, full)
        if evidence:
            said = detected(
                series.row, series.policy, reference, source=f"w{state.windows}", evidence=evidence, full=full
            )
            raise_alarm(self._session, self._clock, said)
            self._alarms.append((said.route, evidence[0].feature))

    def _open(self, sample: InferenceSampled) -> _Open:
        version = str(sample.model_version)
        if version not in self._series:
            row = self._session.get(Series, version, with_for_update=True)
            if row is None:
                row = Series(id=version, route=sample.route, data=SeriesState().model_dump(mode="json"),
                             updated_at=self._clock.now())
                self._session.add(row)
            policy = policy_of(self._session, row.route)
            self._series[version] = _Open(row, SeriesState.model_validate(row.data), policy)
        return self._series[version]

    def save(self) -> None:
        """Write every series that changed."""
        for series in self._series.values():
            series.row.data, series.row.updated_at = series.state.model_dump(mode="json"), self._clock.now()

    def publish(self) -> None:
        """Show what is committed now."""
        for series in self._series.values():
            metrics.WINDOWS.labels(series.row.route).inc(series.windows)
            metrics.publish(series.row.route, series.row.id, series.state, series.policy)
        for route, feature in self._alarms:
            metrics.ALARMS.labels(route, feature).inc()


def detected(
    row: Series, policy: OnDrift, reference: Reference, *, source: str, evidence: list[DriftEvidence],
    full: window.Window,
) -> DriftDetected:
    """The fact of an alarm.

    Args:
        source: what of the series raised it: a window by its number. It makes the id, so that nothing raises two.
    """
    assert full.began is not None and full.ended is not None  # noqa: PT018, S101 - a full window has samples
    return DriftDetected(
        drift_id=f"{row.id.replace('@', '-')}-{source}", pipeline=reference.pipeline, route=row.route,
        model_version=row.id, action=policy.action, reference=reference.dataset, evidence=evidence,
        window_began=full.began, window_ended=full.ended, average_run=policy.average_run, examples=full.examples,
    )


def raise_alarm(session: Session, clock: Clock, said: DriftDetected) -> None:
    """Remember an alarm and say it, in the transaction that found it."""
    session.add(AlarmRow(
        id=said.drift_id, route=said.route, model_version=said.model_version, at=clock.now(),
        fact=said.model_dump(mode="json"),
    ))
    emit(session, said, source=CONSUMER, clock=clock, correlation_id=said.drift_id)
    log.warning(
        "drift detected", drift=said.drift_id, action=said.action, features=[item.feature for item in said.evidence]
    )


def policy_of(session: Session, route: str) -> OnDrift:
    """What the route's pipeline wants to follow from drift; the default where it was not heard of."""
    pipeline = session.exec(select(Pipeline).where(Pipeline.route == route)).first()
    return OnDrift.model_validate(pipeline.policy) if pipeline else OnDrift()


def _read(records: Sequence[Record]) -> tuple[list[Event[InferenceSampled]], list[tuple[Record, Exception]]]:
    """The samples among the records, and the records that are no events."""
    events: list[Event[InferenceSampled]] = []
    unreadable: list[tuple[Record, Exception]] = []
    for record in records:
        try:
            event = decode(record.value, dict(record.headers), record.key)
        except UnknownEventTypeError:
            continue
        except MalformedEventError as error:
            unreadable.append((record, error))
            continue
        if isinstance(event.data, InferenceSampled):
            events.append(event)
    return events, unreadable


def _new(session: Session, ids: Sequence[str]) -> set[str]:
    """Remember these samples; those that were not seen before. What was seen long ago is forgotten."""
    new = insert_new(
        session, SeenSample, [{"event_id": id_} for id_ in dict.fromkeys(ids)], unique=["event_id"],
        returning="event_id",
    )
    newest = session.exec(select(func.max(SeenSample.seq))).one()
    if newest is not None:
        session.exec(delete(SeenSample).where(col(SeenSample.seq) <= newest - _REMEMBERED))
    return new

"""Full windows whose questions wait to be embedded and compared, where an embedder is configured.

Asking a server takes long and may fail, so it is a row that a loop works on, and not a part of counting. A row holds
the window's questions; they go with it when the comparison is made.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Engine
from sqlmodel import Session, col, delete, func, select

from services.drift import metrics, window
from services.drift.mmd import Matrix, compare_embeddings
from services.drift.models import EmbeddingWindow, Series
from services.drift.references import Reference
from services.drift.samples import detected, policy_of, raise_alarm
from services.drift.window import SeriesState, Window
from shared.clock import Clock
from shared.db import transaction
from shared.leases import Lease, apply
from shared.telemetry import get_logger

log = get_logger(__name__)

FEATURE = "embeddings"
PENDING, DONE = "pending", "done"
# Of one model version; where the embedder is away for long, later windows are not compared.
MAX_WAITING = 20
_KEPT_REFERENCES = 16


class Embeds(Protocol):
    """Makes vectors of texts."""

    def embed(self, texts: Sequence[str]) -> Matrix:
        """(texts, dimensions); TemporaryError where that fails."""
        ...


class FindsReferences(Protocol):
    """Finds a model version's reference."""

    def get(self, model_version: str) -> Reference | None:
        """None where the model version was not heard of."""
        ...


def enqueue(session: Session, row: Series, number: int, full: Window) -> None:
    """Let a full window wait for its embeddings."""
    waiting = session.exec(
        select(func.count()).select_from(EmbeddingWindow).where(EmbeddingWindow.model_version == row.id)
    ).one()
    if waiting >= MAX_WAITING:
        metrics.SAMPLES.labels(row.route, "not_embedded").inc(full.samples)
        return
    session.add(EmbeddingWindow(
        id=f"{row.id}-w{number}", state=PENDING, model_version=row.id, number=number,
        window=full.model_dump(mode="json"),
    ))


class EmbedReconciler:
    """`reconcile` for the loop over windows that wait."""

    def __init__(self, engine: Engine, references: FindsReferences, embedder: Embeds, clock: Clock) -> None:
        self._engine, self._references = engine, references
        self._embedder, self._clock = embedder, clock
        self._known: OrderedDict[str, Matrix] = OrderedDict()

    def __call__(self, row: EmbeddingWindow, lease: Lease) -> None:
        full = Window.model_validate(row.window)
        reference = self._references.get(row.model_version)
        found = None
        if reference is not None:
            found = compare_embeddings(
                self._reference(reference), self._embedder.embed(full.texts), seed=row.number,
            )
        now = self._clock.now()
        with transaction(self._engine) as session:
            # Fenced: whoever lost the lease must not move the detector a second time.
            if not apply(session, EmbeddingWindow, lease, state=DONE):
                return
            session.exec(delete(EmbeddingWindow).where(col(EmbeddingWindow.id) == row.id))
            series = session.get(Series, row.model_version, with_for_update=True)
            if found is None or reference is None or series is None:
                return
            policy = policy_of(session, series.route)
            state = window.measured(SeriesState.model_validate(series.data), FEATURE, found, now)
            state, evidence = window.alarm(state, policy, now)
            series.data = state.model_dump(mode="json")
            if evidence:
                # By an "e": the same window may have raised an alarm by what was counted in it.
                said = detected(
                    series, policy, reference, source=f"e{row.number}", evidence=evidence, full=full
                )
                raise_alarm(session, self._clock, said)
        if evidence:
            metrics.ALARMS.labels(series.route, evidence[0].feature).inc()
        metrics.publish(series.route, series.id, state, policy)

    def _reference(self, reference: Reference) -> Matrix:
        if reference.dataset not in self._known:
            self._known[reference.dataset] = self._embedder.embed(reference.profile.examples)
            if len(self._known) > _KEPT_REFERENCES:
                self._known.popitem(last=False)
        return self._known[reference.dataset]

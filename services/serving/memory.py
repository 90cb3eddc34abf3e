"""The agent's memory and its voice: every change of a row and the fact that follows commit together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from services.serving.decide import Known, State, Wanted, backoff
from services.serving.models import AdapterRow, Route, Server
from services.serving.settings import AgentSettings
from services.serving.wanted import digest_in
from shared.clock import Clock
from shared.db import reading, transaction
from shared.events import AdapterFailed, AdapterLoaded, AdapterUnloaded, Payload, ReplicaAlive, ReplicaReady
from shared.messaging import emit

# temporary: it will pass, so it is tried for ever. refused: it may pass, so it is tried a few times. permanent: never.
Failure = Literal["temporary", "refused", "permanent"]


@dataclass(frozen=True)
class Snapshot:
    """All that the agent remembers."""

    routes: Sequence[Route]
    adapters: Sequence[AdapterRow]
    server: Server | None

    @property
    def known(self) -> dict[str, Known]:
        return {row.model_version: to_known(row) for row in self.adapters}


def to_known(row: AdapterRow) -> Known:
    """A row as `services.serving.decide` wants it."""
    state: State = row.state  # type: ignore[assignment]  # written by this module alone
    return Known(row.model_version, row.digest, state, row.attempts, row.due_at)


class Memory:
    """Reads and changes the agent's database."""

    def __init__(self, engine: Engine, settings: AgentSettings, clock: Clock) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock

    def read(self) -> Snapshot:
        with reading(self._engine) as session:
            return Snapshot(
                list(session.exec(select(Route))), list(session.exec(select(AdapterRow))),
                session.get(Server, self._settings.replica),
            )

    def server_started(self, started: str) -> None:
        """A model server began anew, without adapters: say that it is ready, and load everything again.

        Failures that another attempt cannot help stay; so do adapters that are on their way out.
        """
        now, replica = self._clock.now(), self._settings.replica
        with transaction(self._engine) as session:
            server = session.get(Server, replica) or Server(replica=replica, started=started, ready_at=now)
            server.started, server.ready_at = started, now
            session.add(server)
            for row in session.exec(select(AdapterRow).where(col(AdapterRow.state).in_(("loaded", "pending")))):
                row.state, row.attempts, row.refusals, row.due_at, row.updated_at = "pending", 0, 0, None, now
            self._say(session, ReplicaReady(**self._who()), correlation_id=f"replica-{replica}-{started or now}")

    def alive(self) -> None:
        """Say that the server answers still."""
        with transaction(self._engine) as session:
            self._say(session, ReplicaAlive(**self._who()), correlation_id=f"replica-{self._settings.replica}")

    def base_digest_read(self, digest: str) -> None:
        """Remember the digest of the base model, for loads while S3 is down."""
        with transaction(self._engine) as session:
            server = session.get_one(Server, self._settings.replica)
            server.base_digest = digest

    def held(self, wanted: Wanted, until: datetime) -> None:
        with transaction(self._engine) as session:
            row = self._row(session, wanted)
            row.state, row.due_at = "pending", until

    def loaded(self, wanted: Wanted) -> None:
        with transaction(self._engine) as session:
            row = self._row(session, wanted)
            row.state, row.attempts, row.refusals, row.due_at, row.reason = "loaded", 0, 0, None, ""
            self._say_about(session, row, AdapterLoaded)

    def failed(self, wanted: Wanted, reason: str, kind: Failure) -> bool:
        """Remember a failed attempt, and say so (a temporary failure once per reason); whether it was the last."""
        with transaction(self._engine) as session:
            row = self._row(session, wanted)
            row.attempts += 1
            row.refusals += kind == "refused"
            permanent = kind == "permanent" or row.refusals >= self._settings.load_attempts
            news = permanent or row.reason != reason
            row.state = "failed" if permanent else "pending"
            row.due_at = None if permanent else self._clock.now() + backoff(row.attempts)
            row.reason = reason
            if news:
                failure = AdapterFailed(**self._about(row), reason=reason, permanent=permanent)
                self._say(session, failure, row.correlation_id, row.causation_id)
            return permanent

    def draining(self, name: str, root: str, until: datetime) -> None:
        with transaction(self._engine) as session:
            row = session.get(AdapterRow, name) or self._unknown(name)
            # What is listed counts, which need not be what was wanted last.
            row.root, row.digest = root, digest_in(root)
            row.state, row.due_at, row.updated_at = "draining", until, self._clock.now()
            session.add(row)

    def withdraw(self) -> None:
        """The server is about to stop: say of every adapter that it is not there any more, so that none is asked for.

        Its requests in flight end with the server; once it has started again, all is loaded again.
        """
        with transaction(self._engine) as session:
            for row in session.exec(select(AdapterRow).where(AdapterRow.state == "loaded")):
                row.state, row.due_at, row.updated_at = "pending", None, self._clock.now()
                self._say_about(session, row, AdapterUnloaded)

    def gone(self, name: str, until: datetime) -> None:
        with transaction(self._engine) as session:
            row = session.get_one(AdapterRow, name)
            row.state, row.due_at, row.updated_at = "unloaded", until, self._clock.now()
            self._say_about(session, row, AdapterUnloaded)

    def forget(self, name: str) -> None:
        with transaction(self._engine) as session:
            session.delete(session.get_one(AdapterRow, name))

    def _row(self, session: Session, wanted: Wanted) -> AdapterRow:
        """The adapter's row, made or made anew where the name stands for other weights now."""
        row = session.get(AdapterRow, wanted.name)
        if row is None or row.digest != wanted.digest:
            row = session.merge(AdapterRow(
                model_version=wanted.name, digest=wanted.digest, root=wanted.root, state="pending", attempts=0,
                refusals=0, due_at=None, reason="", updated_at=self._clock.now(),
                correlation_id=wanted.correlation_id, causation_id=wanted.causation_id,
            ))
        row.updated_at = self._clock.now()
        return row

    def _unknown(self, name: str) -> AdapterRow:
        """A row for an adapter that the server lists and this database has never heard of."""
        return AdapterRow(
            model_version=name, digest="", root="", state="draining", updated_at=self._clock.now(),
            correlation_id=f"replica-{self._settings.replica}",
        )

    def _who(self) -> dict[str, str]:
        settings = self._settings
        return {
            "replica": settings.replica, "endpoint": settings.advertised_endpoint, "base_model": settings.base_model,
        }

    def _about(self, row: AdapterRow) -> dict[str, str]:
        return {**self._who(), "model_version": row.model_version, "digest": row.digest}

    def _say_about(self, session: Session, row: AdapterRow, kind: type[AdapterLoaded | AdapterUnloaded]) -> None:
        if row.digest:  # without one it was never ours, and nobody waits to hear of it
            self._say(session, kind(**self._about(row)), row.correlation_id, row.causation_id)

    def _say(self, session: Session, payload: Payload, correlation_id: str, causation_id: str | None = None) -> None:
        emit(session, payload, source=AgentSettings.service, clock=self._clock, correlation_id=correlation_id,
             causation_id=causation_id)

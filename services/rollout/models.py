"""The controller's tables: routes and rollouts that it owns, and what it has heard of pipelines and replicas."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.db import UtcDateTime
from shared.leases import LeasedRow

# SQLite numbers rows by itself only where the type is exactly INTEGER.
_SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")


class Base(SQLModel, registry=registry()):
    """Base of the controller's tables."""


class Pipeline(Base, table=True):
    """The newest version of a pipeline that was heard of."""

    __tablename__ = "pipelines"

    id: str = Field(primary_key=True)
    version: int
    route: str
    policy: dict[str, Any] = Field(sa_type=JSON)


class Route(Base, table=True):
    """The truth about a route; every change of it counts `revision` up and is said in a `route.updated`.

    Attributes:
        stable: ModelRef of the stable version; None for the bare base model.
        rollout_id: the only rollout that may change the route; None while it is free.
        candidate: ModelRef of that rollout's version.
        weight: the candidate's share in basis points.
        shadow: the share of the others' requests that are copied to it (and to the control), in basis points.
        control: the control's share in basis points; None where there is none.
        capture: RouteCapture of the pipeline's newest version; None for none.
        counted: CountedEvents of the rollout that has the route; None while none has, or where that took it before
            gateways could tell of units.
    """

    __tablename__ = "routes"

    id: str = Field(primary_key=True)
    pipeline: str
    base_model: str
    base_model_digest: str = ""
    revision: int = 0
    salt: str
    stable: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    rollout_id: str | None = None
    candidate: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    weight: int = 0
    shadow: int = 0
    control: int | None = None
    capture: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    counted: list[dict[str, Any]] | None = Field(default=None, sa_type=JSON)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class Rollout(LeasedRow, Base, table=True):
    """One model version on its way to a route; `state` is its phase.

    Attributes:
        number: where it stands among the route's rollouts; a higher one supersedes a lower one, and of equal ones the
            younger the older. The version's own number, or that of the newest where a person brought it back.
        attempt: counts the rollouts of this version; above 1 after a retry or an undo.
        model: ModelRef.
        policy: the RolloutPolicy as it was when the rollout was made; later changes are for later rollouts.
        stable: the stable version that it was compared with, once it began; None for the bare base model.
        data: RolloutState.
    """

    __tablename__ = "rollouts"

    pipeline: str = Field(index=True)
    route: str = Field(index=True)
    model_version: str = Field(index=True)
    number: int
    attempt: int = 1
    model: dict[str, Any] = Field(sa_type=JSON)
    base_model_digest: str
    policy: dict[str, Any] = Field(sa_type=JSON)
    stable: str | None = None
    data: dict[str, Any] = Field(sa_type=JSON)
    correlation_id: str
    causation_id: str
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class MetUnit(Base, table=True):
    """A unit that some gateway said to have met something, under the present salt of a route that has a rollout.

    Attributes:
        cell: what and how often, as `unit_counts.cell`.
        unit: its fingerprint, in hex.
    """

    __tablename__ = "met_units"

    route: str = Field(primary_key=True)
    cell: str = Field(primary_key=True)
    unit: str = Field(primary_key=True)


class MetCount(Base, table=True):
    """How many of them there are, by the version that each met it with first, as far as was heard."""

    __tablename__ = "met_counts"

    route: str = Field(primary_key=True)
    version: str = Field(primary_key=True)
    cell: str = Field(primary_key=True)
    units: int


class Withdrawal(LeasedRow, Base, table=True):
    """A candidate's last weight was taken away; `state` is ``waiting``, ``confirmed`` or ``unconfirmed``. `id` is the
    rollout's.

    Attributes:
        revision: of the route, the first one without the weight.
        guardrail: the one that fired; empty where none did.
        sampled_at: when the newest sample was scraped that made it fire; None where none did.
        confirmed_at: from when on the last of the gateways gave the candidate nothing; None until all have said so.
        gateways: how many have confirmed.
        waiting: why it is not confirmed, for people.
    """

    __tablename__ = "withdrawals"

    route: str
    revision: int
    guardrail: str = ""
    sampled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    decided_at: datetime = Field(sa_type=UtcDateTime)
    confirmed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    gateways: int = 0
    waiting: str = Field(default="", sa_type=Text)


class Rewrite(LeasedRow, Base, table=True):
    """How far llm-d's object for a route is, where llm-d splits the traffic. `id` is the route's.

    Attributes:
        wanted: the newest revision of the route that was heard of.
        revision: the one that the cluster has.
        changed_at: when it last took other targets or weights.
        problem: why the cluster has not the wanted one; empty where none is known.
    """

    __tablename__ = "rewrites"

    wanted: int = -1
    revision: int = -1
    changed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    problem: str = Field(default="", sa_type=Text)


class CommandRow(Base, table=True):
    """What a person asked of a rollout. The API writes it, the owner of the rollout's lease acts on it."""

    __tablename__ = "commands"

    id: int | None = Field(default=None, primary_key=True, sa_type=_SEQUENCE)
    rollout_id: str = Field(index=True)
    verb: str
    full: bool = False
    reason: str = Field(sa_type=Text)
    by: str = ""
    asked_at: datetime = Field(sa_type=UtcDateTime)
    answered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    refused: str = Field(default="", sa_type=Text)


class Decision(Base, table=True):
    """One decision with everything that it rested on; `by` is who asked for it, where a person did."""

    __tablename__ = "decisions"

    id: int | None = Field(default=None, primary_key=True, sa_type=_SEQUENCE)
    rollout_id: str = Field(index=True)
    at: datetime = Field(sa_type=UtcDateTime)
    verdict: str
    action: str
    rule: str
    reason: str = Field(sa_type=Text)
    by: str = ""
    step: int
    weight: int
    evidence: dict[str, Any] = Field(sa_type=JSON)


class WebhookCall(LeasedRow, Base, table=True):
    """An HTTP call that is to be made, or was; services/rollout/courier.py makes it.

    A question (state ``ask``) has one row per rollout and webhook, which the next question takes over; when it is
    ``answered``, the next look takes the answer. A message (``tell``) has a row of its own and ends as ``delivered``
    or ``failed``.

    Attributes:
        webhook: name of the webhook or notification.
        type: its WebhookType, or ``notification``.
        number: of a question: which one; 0 of a message.
        message_id: the ``webhook-id`` of all attempts.
        url, url_from, secret, timeout_seconds: of its Receiver.
        most_attempts: after which it has failed.
        ok: the last answer was 2xx; None before there was one.
        said: the last answer in words, or why there was none.
    """

    __tablename__ = "webhook_calls"
    __table_args__ = (Index("ix_webhook_calls_due", "state", "next_look_at"),)

    rollout_id: str = Field(index=True)
    webhook: str
    type: str
    number: int = 0
    message_id: str
    url: str | None = Field(default=None, sa_type=Text)
    url_from: str | None = None
    secret: str | None = None
    timeout_seconds: float
    most_attempts: int
    body: str = Field(sa_type=Text)
    attempts: int = 0
    ok: bool | None = None
    said: str = Field(default="", sa_type=Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Replica(Base, table=True):
    """A model server that has said that it is ready, and when it last did.

    Attributes:
        seen_at: its newest report of any kind; None where it was heard of before reports were remembered.
        says_alive: it reports also when there is nothing new. One that does not is never forgotten: its silence says
            nothing.
        forgotten_at: since when nobody waits for it, for want of reports; None while it is waited for.
    """

    __tablename__ = "replicas"

    id: str = Field(primary_key=True)
    base_model: str
    ready_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    says_alive: bool = False
    forgotten_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class AdapterOnReplica(Base, table=True):
    """The newest fact about one adapter on one replica: ``loaded``, ``failed`` or ``unloaded``."""

    __tablename__ = "adapters"

    replica: str = Field(primary_key=True)
    model_version: str = Field(primary_key=True)
    digest: str
    state: str
    permanent: bool = False
    reason: str = Field(default="", sa_type=Text)
    at: datetime = Field(sa_type=UtcDateTime)

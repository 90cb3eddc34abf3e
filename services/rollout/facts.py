"""What the controller's own database says about rollouts, read for many of them at once.

A fact that changes later ends the lease of whoever concluded from the older one (`shared.leases.interrupt`), so facts
may be read once for all rows that were claimed together.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy.orm import load_only
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from services.rollout.hook_state import HookAnswer
from services.rollout.met_units import Met, counts_of
from services.rollout.models import AdapterOnReplica, CommandRow, Replica, Rollout, Route, WebhookCall
from services.rollout.observation import Command, Loading, Verb
from services.rollout.state import ACTIVE
from shared.errors import TemporaryError
from shared.events import ModelRef
from shared.gateway_metrics import EVENT_SERVED
from shared.served_names import BASE, control_of


@dataclass(frozen=True)
class Known:
    """All of it about one rollout, as the reducer sees it: `services.rollout.observation.Observation`.

    Attributes:
        met: distinct units by version and by what they met; None where the gateways were not asked to tell.
    """

    stable: str
    control: str | None
    loading: Loading
    route_free: bool
    misfit: str
    successor: str | None
    command: Command | None
    answers: Mapping[str, HookAnswer]
    met: Met | None


@dataclass(frozen=True)
class Facts:
    """The rows that bear on some rollouts.

    Attributes:
        routes: by name.
        rollouts: those in flight or promoted, by route.
        replicas: those that are waited for, by base model, in the order of their names.
        adapters: by model version.
        commands: the oldest that is not answered yet, by rollout.
        answers: of webhooks to the newest questions, by rollout and webhook's name.
        met: by route, distinct units by version and by what they met.
    """

    routes: Mapping[str, Route]
    rollouts: Mapping[str, Sequence[Rollout]]
    replicas: Mapping[str, Sequence[Replica]]
    adapters: Mapping[str, Sequence[AdapterOnReplica]]
    commands: Mapping[str, CommandRow]
    answers: Mapping[str, Mapping[str, HookAnswer]]
    met: Mapping[str, Met]

    def about(self, rollout: Rollout) -> Known:
        """What bears on one of them.

        Raises:
            TemporaryError: its route is not there yet.
        """
        route = self.routes.get(rollout.route)
        if route is None:
            raise TemporaryError(f"{rollout.id}: the route {rollout.route} is not in the database")
        stable = ModelRef.model_validate(route.stable) if route.stable else None
        name = stable.model_version if stable else BASE
        mine = route.rollout_id == rollout.id
        control = control_of(name) if mine and route.control is not None else None
        candidate = ModelRef.model_validate(rollout.model)
        served = {candidate.model_version: candidate.artifact.digest}
        if control and stable:
            served[control] = stable.artifact.digest
        newer = successor(rollout, self.rollouts.get(rollout.route, ()))
        return Known(
            stable=name, control=control, loading=self._loading(served, route.base_model),
            route_free=route.rollout_id in (None, rollout.id),
            misfit=_misfit(route, rollout),
            successor=newer.model_version if newer else None,
            command=_command(self.commands.get(rollout.id)), answers=self.answers.get(rollout.id, {}),
            met=None if mine and not _told(route) else self.met.get(route.id, {}) if mine else {},
        )

    def _loading(self, served: Mapping[str, str], base_model: str) -> Loading:
        """What a replica had loaded before it last became ready is gone; what it can never load stays so.

        Args:
            served: digests by name, of all that every replica must have.
        """
        replicas = self.replicas.get(base_model, ())
        waiting: dict[str, None] = {}
        for name, digest in served.items():
            facts = {fact.replica: fact for fact in self.adapters.get(name, ()) if fact.digest == digest}
            for replica in replicas:
                fact = facts.get(replica.id)
                if fact is not None and fact.state == "failed" and fact.permanent:
                    return Loading(failure=f"replica {replica.id} cannot load {name}: {fact.reason}")
                if fact is None or fact.state != "loaded" or fact.at < replica.ready_at:
                    waiting[replica.id] = None
        return Loading(waiting=tuple(waiting), loaded=len(replicas) - len(waiting))


def learn(session: Session, rollouts: Iterable[Rollout]) -> Facts:
    """Read all that bears on some rollouts; seven queries, however many there are."""
    rows = list(rollouts)
    routes = {row.route for row in rows}
    by_route, replicas, adapters = defaultdict(list), defaultdict(list), defaultdict(list)
    for rival in session.exec(rivals(routes)):
        by_route[rival.route].append(rival)
    waited_for = select(Replica).where(col(Replica.forgotten_at).is_(None))
    for replica in session.exec(waited_for.order_by(Replica.id)):
        replicas[replica.base_model].append(replica)
    for fact in session.exec(
        select(AdapterOnReplica).where(col(AdapterOnReplica.model_version).in_(
            [name for row in rows for name in (row.model_version, control_of(row.stable or BASE))]
        ))
    ):
        adapters[fact.model_version].append(fact)
    commands: dict[str, CommandRow] = {}
    for command in session.exec(
        select(CommandRow)
        .where(col(CommandRow.rollout_id).in_([row.id for row in rows]), col(CommandRow.answered_at).is_(None))
        .order_by(col(CommandRow.id))
    ):
        commands.setdefault(command.rollout_id, command)
    found = session.exec(select(Route).where(col(Route.id).in_(routes)))
    return Facts(
        {route.id: route for route in found}, by_route, replicas, adapters, commands, _answers(session, rows),
        counts_of(session, routes),
    )


def _answers(session: Session, rows: Sequence[Rollout]) -> Mapping[str, Mapping[str, HookAnswer]]:
    answers: dict[str, dict[str, HookAnswer]] = defaultdict(dict)
    for call in session.exec(select(WebhookCall).where(
        col(WebhookCall.rollout_id).in_([row.id for row in rows]), WebhookCall.state == "answered"
    )):
        answers[call.rollout_id][call.webhook] = HookAnswer(call.number, bool(call.ok), call.said)
    return answers


def rivals(routes: Iterable[str]) -> SelectOfScalar[Rollout]:
    """The query for the rollouts of some routes that are in flight or were promoted, without their large evidence."""
    needed: list[Any] = [Rollout.route, Rollout.state, Rollout.number, Rollout.created_at, Rollout.model_version]
    return select(Rollout).options(load_only(*needed)).where(
        col(Rollout.route).in_(routes), col(Rollout.state).in_([*ACTIVE, "promoted"])
    )


def successor(rollout: Rollout, others: Iterable[Rollout]) -> Rollout | None:
    """The newest of `others` that comes after a rollout; they are in flight or promoted, on the same route."""
    newest = max(others, key=_place, default=None)
    return newest if newest is not None and _place(newest) > _place(rollout) else None


def _place(rollout: Rollout) -> tuple[int, float]:
    return rollout.number, rollout.created_at.timestamp()


def _told(route: Route) -> bool:
    """Whether the gateways were asked to tell of whom they serve."""
    return any(counted["event"] == EVENT_SERVED for counted in route.counted or ())


def _misfit(route: Route, rollout: Rollout) -> str:
    """Why an adapter for another base can never be served beside the route's stable one."""
    base = ModelRef.model_validate(rollout.model).base_model
    if base != route.base_model:
        return f"the adapter was trained on {base}, but the route {route.id} serves {route.base_model}"
    if route.stable and route.base_model_digest != rollout.base_model_digest:
        return (f"the adapter was trained on {base} with digest {rollout.base_model_digest}, but the route {route.id} "
                f"serves {route.base_model_digest}")
    return ""


def _command(row: CommandRow | None) -> Command | None:
    if row is None or row.id is None:
        return None
    return Command(id=row.id, verb=cast(Verb, row.verb), reason=row.reason, by=row.by, full=row.full)

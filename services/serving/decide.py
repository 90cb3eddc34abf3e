"""What to do about the adapters of one model server. Pure: what is wanted, listed and known in, actions out.

The rules that keep a model server alive are here: a name is never loaded twice and never replaced in place, nothing
that the route table names is unloaded, and what left it is unloaded only after its requests have had time to end.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Literal, TypeAlias

# pending: to be loaded. loaded: listed, and said so. failed: never to be tried again with this digest.
# draining: not wanted any more, still listed. unloaded: not listed any more, files still there.
State = Literal["pending", "loaded", "failed", "draining", "unloaded"]

_LONGEST_BACKOFF_SECONDS = 60.0


@dataclass(frozen=True)
class Wanted:
    """An adapter that the route table names.

    Attributes:
        root: the folder that it is to be served from.
    """

    name: str
    uri: str
    digest: str
    root: str
    correlation_id: str
    causation_id: str


@dataclass(frozen=True)
class Known:
    """What the agent remembers of an adapter; see `services.serving.models.AdapterRow`."""

    name: str
    digest: str
    state: State
    attempts: int = 0
    due_at: datetime | None = None

    def waits(self, now: datetime) -> bool:
        return self.due_at is not None and now < self.due_at


@dataclass(frozen=True)
class Limits:
    """What one server may be asked.

    Attributes:
        adapters: how many it may list.
        drain: how long an adapter that left the routes is still served, and its files kept after that.
        replica: its name, which decides its turn among the replicas.
        stagger: within how long all replicas load a new adapter, each at its own time.
    """

    adapters: int
    drain: timedelta
    replica: str = ""
    stagger: timedelta = timedelta(0)


@dataclass(frozen=True)
class Load:
    """Stage, check, load and report."""

    wanted: Wanted


@dataclass(frozen=True)
class Hold:
    """It is new, and other replicas load it first: remember to do it at `until`."""

    wanted: Wanted
    until: datetime


@dataclass(frozen=True)
class Confirm:
    """The server lists it from the right folder: remember and report that."""

    wanted: Wanted


@dataclass(frozen=True)
class Refuse:
    """It cannot be loaded: remember and report that."""

    wanted: Wanted
    reason: str
    permanent: bool


@dataclass(frozen=True)
class Drain:
    """Nobody wants it any more: let its requests end until `until`."""

    name: str
    root: str
    until: datetime


@dataclass(frozen=True)
class Unload:
    """Its time is over: take it from the server."""

    name: str


@dataclass(frozen=True)
class Gone:
    """The server does not list it any more: report that, and keep its files until `until`."""

    name: str
    until: datetime


@dataclass(frozen=True)
class Forget:
    """Nothing is left to do for it."""

    name: str


Action: TypeAlias = Load | Hold | Confirm | Refuse | Drain | Unload | Gone | Forget


def decide(
    wanted: Mapping[str, Wanted], listed: Mapping[str, str], known: Mapping[str, Known], *, now: datetime,
    limits: Limits,
) -> list[Action]:
    """The next actions, at most one per name and at most one `Load`, so that each load follows a fresh look.

    Args:
        wanted: by name.
        listed: adapters on the server, name to root.
        known: by name.
    """
    actions: list[Action] = []
    for name, item in sorted(wanted.items()):
        action = _for_wanted(item, listed, known.get(name), now, limits)
        if action is not None and not (isinstance(action, Load) and any(isinstance(a, Load) for a in actions)):
            actions.append(action)
    for name in sorted((listed.keys() | known.keys()) - wanted.keys()):
        action = _for_unwanted(name, listed, known.get(name), now, limits)
        if action is not None:
            actions.append(action)
    return actions


def _for_wanted(
    wanted: Wanted, listed: Mapping[str, str], known: Known | None, now: datetime, limits: Limits
) -> Action | None:
    same = known if known is not None and known.digest == wanted.digest else None
    root = listed.get(wanted.name)
    if root == wanted.root:
        return None if same is not None and same.state == "loaded" else Confirm(wanted)
    if same is not None and (same.state == "failed" or (same.state == "pending" and same.waits(now))):
        return None
    if root is not None:
        reason = f"the server already has the name {wanted.name} from {root}; a name never gets other weights"
        return Refuse(wanted, reason, permanent=True)
    if len(listed) >= limits.adapters:
        reason = f"the server lists {len(listed)} adapters and may have {limits.adapters}; waiting for one to leave"
        return Refuse(wanted, reason, permanent=False)
    # A load stops every stream of the server for its length, so not all replicas do it at once. A server that has no
    # adapter yet has no stream to stop.
    wait = turn(limits.replica, wanted.name, limits.stagger)
    if same is None and listed and wait:
        return Hold(wanted, now + wait)
    return Load(wanted)


def _for_unwanted(
    name: str, listed: Mapping[str, str], known: Known | None, now: datetime, limits: Limits
) -> Action | None:
    if name in listed:
        if known is None or known.state != "draining":
            return Drain(name, listed[name], now + limits.drain)
        return None if known.waits(now) else Unload(name)
    if known is None or (known.state == "unloaded" and known.waits(now)):
        return None
    return Gone(name, now + limits.drain) if known.state in ("loaded", "draining") else Forget(name)


def when_named(state: State) -> State:
    """An adapter's state once a route names it, whatever the next look sees.

    One that drains begins anew: requests may come again, and if the route drops it before the next look, they have
    the whole drain time once more.
    """
    return "pending" if state == "draining" else state


def is_restart(*, seen: str | None, started: str, was_reachable: bool, lost: bool) -> bool:
    """Whether the model server that answers now is not the one that was seen before.

    Args:
        seen: its start when it was last seen; None if it never was.
        started: its start as it says it now; "" where it does not say.
        was_reachable: whether the last look reached it.
        lost: whether an adapter is gone that nobody unloaded.
    """
    if seen is None or seen != started:
        return True
    return not started and (lost or not was_reachable)


def turn(replica: str, name: str, window: timedelta) -> timedelta:
    """When within `window` this replica loads the adapter `name`: always the same, and evenly spread over replicas."""
    digest = hashlib.blake2b(f"{replica}\0{name}".encode(), digest_size=8).digest()
    return window * (int.from_bytes(digest, "big") / 2**64)


def backoff(attempts: int) -> timedelta:
    """How long to wait after this many failed attempts: 1 s, doubling, at most a minute."""
    return timedelta(seconds=min(_LONGEST_BACKOFF_SECONDS, 2.0 ** min(attempts - 1, 10)))


def unused_folders(present: Collection[str], *, wanted: Collection[Wanted], listed: Collection[str],
                   known: Collection[str]) -> list[str]:
    """Those of the staged folders that nothing needs: not wanted, not listed, and not remembered.

    A download that is under way, or was, belongs to the folder that it is to become.
    """
    needed = {item.root for item in wanted} | set(listed) | set(known)
    partial = tuple(str(PurePath(root).with_name(f".{PurePath(root).name}.")) for root in needed)
    return sorted(path for path in set(present) - needed if not (partial and path.startswith(partial)))

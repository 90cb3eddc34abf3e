"""The agent's loop: look at the model server, decide, act, remember and report. Again every second.

It trusts nothing but what it sees: after a crash of the server, of this process, or of both, the next look finds what
is missing and puts it back. A server that does not answer is left alone until it does.
"""

import threading
from datetime import datetime, timedelta
from pathlib import Path

from prometheus_client import Gauge

from services.serving.decide import (
    Action,
    Confirm,
    Drain,
    Forget,
    Gone,
    Hold,
    Limits,
    Load,
    Refuse,
    Unload,
    Wanted,
    decide,
    is_restart,
    unused_folders,
)
from services.serving.engine_client import EngineClient, EngineRefusedError, EngineUnavailableError, Listing
from services.serving.memory import Failure, Memory, Snapshot
from services.serving.metrics import (
    ADAPTERS,
    ENGINE_STARTS,
    ENGINE_UP,
    HOT_ADAPTERS,
    LOAD_SECONDS,
    LOADS,
    UNLOADS,
    begin,
)
from services.serving.settings import AgentSettings
from services.serving.staging import check, remove_folders, stage
from services.serving.wanted import count_hot, wanted_adapters
from services.serving.wanted_file import WantedFile, wanted_file, write_wanted
from shared.clock import Clock
from shared.errors import NotFoundError, PermanentError, TemporaryError
from shared.s3 import ArtifactStore, Manifest
from shared.telemetry import get_logger

log = get_logger(__name__)


class AgentLoop:
    """Makes one model server list what the route table names.

    Args:
        client: of the model server.
        leaving: set by whoever is about to stop the server; from then on it has no adapter, until it has started anew.
    """

    name = "agent"

    def __init__(
        self, *, settings: AgentSettings, memory: Memory, store: ArtifactStore, client: EngineClient, clock: Clock,
        leaving: threading.Event,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._store = store
        self._client = client
        self._clock = clock
        self._leaving = leaving
        self._limits = Limits(
            settings.max_cpu_loras, timedelta(seconds=settings.drain_seconds), settings.replica,
            timedelta(seconds=settings.load_stagger_seconds),
        )
        self._reachable = False
        self._complaint = ""
        self._written: WantedFile | None = None
        self._unused_since: dict[str, datetime] = {}
        self._hot = 0
        self._alive_due = clock.now()

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set."""
        begin(listed=self._settings.max_cpu_loras, hot=self._settings.max_loras)
        while not stop.is_set():
            self.look()
            self._clock.wait(stop, self._settings.reconcile_interval_seconds)

    def look(self) -> None:
        """One look at the server and all that follows from it."""
        # Before anything is unloaded, or the plugin would load it again; and also while the server starts.
        self._publish_wanted(self._memory.read())
        listing = self._observe()
        if listing is None:
            self._reachable = False
            return
        snapshot = self._memory.read()
        if self._restarted(snapshot, listing):
            log.info("the model server has started", started=listing.started, adapters=sorted(listing.adapters))
            self._memory.server_started(listing.started)
            ENGINE_STARTS.inc()
            self._leaving.clear()
            snapshot = self._memory.read()
        self._reachable = True
        if self._leaving.is_set():
            self._memory.withdraw()
            return
        self._say_alive()
        wanted = self._wanted(snapshot)
        try:
            for action in decide(
                wanted, listing.adapters, snapshot.known, now=self._clock.now(), limits=self._limits
            ):
                self._act(action)
            self._tidy(wanted)
        except EngineUnavailableError as error:
            self._complain(str(error))

    def _say_alive(self) -> None:
        """Only while the server answers and stays: rollouts wait for those that say so."""
        now = self._clock.now()
        if now >= self._alive_due:
            self._memory.alive()
            self._alive_due = now + timedelta(seconds=self._settings.alive_seconds)

    def _wanted(self, snapshot: Snapshot) -> dict[str, Wanted]:
        return wanted_adapters(
            snapshot.routes, base_model=self._settings.base_model, folder=self._settings.adapters_dir
        )

    def _publish_wanted(self, snapshot: Snapshot) -> None:
        """Tell vLLM's plugin what is wanted, and people where the routes want too much at once."""
        settings = self._settings
        content = wanted_file(
            self._wanted(snapshot), base_model=settings.base_model, base_digest=self._known_base_digest(snapshot),
            max_rank=settings.max_lora_rank,
        )
        if content != self._written or not settings.wanted_file.exists():
            write_wanted(settings.wanted_file, content)
            self._written = content
        hot = count_hot(snapshot.routes, base_model=settings.base_model)
        HOT_ADAPTERS.set(hot)
        if hot > settings.max_loras and hot != self._hot:
            log.warning("more adapters get traffic than the server computes with at a time; it will be slow",
                        adapters=hot, max_loras=settings.max_loras)
        self._hot = hot

    def _known_base_digest(self, snapshot: Snapshot) -> str:
        if snapshot.server is None:
            return ""
        try:
            return snapshot.server.base_digest or self._base_digest()
        except TemporaryError:
            return ""

    def _observe(self) -> Listing | None:
        """What the server says; None while there is nothing to be done with it."""
        try:
            listing = self._client.look()
        except EngineUnavailableError as error:
            self._complain(str(error))
            return None
        if self._settings.base_model not in listing.bases:
            self._complain(
                f"the model server serves {sorted(listing.bases)}, not {self._settings.base_model}; "
                "check its --served-model-name"
            )
            return None
        self._complain("")
        return listing

    def _complain(self, text: str) -> None:
        """Log what is wrong with the server once, not at every look."""
        ENGINE_UP.set(0 if text else 1)
        if text and text != self._complaint:
            log.warning("waiting for the model server", reason=text)
        self._complaint = text

    def _restarted(self, snapshot: Snapshot, listing: Listing) -> bool:
        lost = any(row.state == "loaded" and row.model_version not in listing.adapters for row in snapshot.adapters)
        return is_restart(
            seen=snapshot.server.started if snapshot.server else None, started=listing.started,
            was_reachable=self._reachable, lost=lost,
        )

    def _act(self, action: Action) -> None:
        match action:
            case Load(wanted):
                self._load(wanted)
            case Hold(wanted, until):
                log.info("adapter is new; other replicas load it first", adapter=wanted.name, at=until.isoformat())
                self._memory.held(wanted, until)
            case Confirm(wanted):
                self._memory.loaded(wanted)
                log.info("adapter loaded", adapter=wanted.name, root=wanted.root)
            case Refuse(wanted, reason, permanent):
                self._failed(wanted, reason, "permanent" if permanent else "temporary")
            case Drain(name, root, until):
                log.info("adapter is not wanted any more", adapter=name, unload_at=until.isoformat())
                self._memory.draining(name, root, until)
            case Unload(name):
                self._unload(name)
            case Gone(name, until):
                log.info("adapter unloaded", adapter=name)
                self._memory.gone(name, until)
                UNLOADS.inc()
            case Forget(name):
                self._memory.forget(name)

    def _load(self, wanted: Wanted) -> None:
        log.info("loading adapter", adapter=wanted.name, uri=wanted.uri)
        try:
            with LOAD_SECONDS.time():
                manifest = stage(self._store, wanted)
                check(
                    wanted, manifest, base_model=self._settings.base_model, base_digest=self._base_digest(),
                    max_rank=self._settings.max_lora_rank, server=self._settings.model_server,
                )
                self._client.load(wanted.name, wanted.root)
        except EngineRefusedError as error:
            # It has it already where the plugin was faster, or an attempt that was given up too early.
            if not self._confirm(wanted):
                self._failed(wanted, str(error), "refused")
        except NotFoundError as error:
            self._failed(wanted, str(error), "refused")
        except PermanentError as error:
            self._failed(wanted, str(error), "permanent")
        except EngineUnavailableError:
            raise
        except (TemporaryError, OSError) as error:
            self._failed(wanted, str(error), "temporary")
        else:
            LOADS.labels("loaded").inc()
            self._confirm(wanted)

    def _confirm(self, wanted: Wanted) -> bool:
        """Say that an adapter is there, only if the server itself lists it from the right folder."""
        listed = self._client.look().adapters.get(wanted.name) == wanted.root
        if listed:
            self._act(Confirm(wanted))
        return listed

    def _unload(self, name: str) -> None:
        try:
            self._client.unload(name)
        except EngineRefusedError as error:
            log.warning("the model server does not unload the adapter", adapter=name, reason=str(error))

    def _failed(self, wanted: Wanted, reason: str, kind: Failure) -> None:
        permanent = self._memory.failed(wanted, reason, kind)
        LOADS.labels("permanent" if permanent else "temporary").inc()
        log.warning("adapter cannot be loaded", adapter=wanted.name, reason=reason, permanent=permanent)

    def _base_digest(self) -> str:
        """Digest of the base model in S3; what it last was while S3 is down."""
        uri = f"base-models/{self._settings.base_model}/"
        server = self._memory.read().server
        remembered = server.base_digest if server is not None else ""
        try:
            manifest: Manifest | None = self._store.manifest(uri)
        except TemporaryError:
            if remembered:
                return remembered
            raise
        if manifest is None:
            raise TemporaryError(f"{uri} is not in S3, so no adapter can be checked against it")
        if manifest.digest != remembered:
            self._memory.base_digest_read(manifest.digest)
        return manifest.digest

    def _tidy(self, wanted: dict[str, Wanted]) -> None:
        """Delete staged folders that nothing has needed for a while, and count what there is.

        A server that has evicted an adapter reads its files again for the next request, and dies if they are gone. So
        the list is read once more, and a load that this loop does not know of (the plugin's, or one that was given up)
        has the drain time to show up in it.
        """
        snapshot, now = self._memory.read(), self._clock.now()
        _count_states(ADAPTERS, snapshot)
        present = [str(path) for path in _folders(self._settings.adapters_dir)]
        unused = unused_folders(
            present, wanted=list(wanted.values()), listed=[], known=[row.root for row in snapshot.adapters]
        )
        self._unused_since = {path: self._unused_since.get(path, now) for path in unused}
        due = [path for path, since in self._unused_since.items() if now - since >= self._limits.drain]
        if due:
            remove_folders(sorted(set(due) - set(self._client.look().adapters.values())))


def _folders(parent: Path) -> list[Path]:
    return list(parent.iterdir()) if parent.exists() else []


def _count_states(gauge: Gauge, snapshot: Snapshot) -> None:
    states = [row.state for row in snapshot.adapters]
    for state in ("pending", "loaded", "failed", "draining", "unloaded"):
        gauge.labels(state).set(states.count(state))

"""Which adapter vLLM gets for a name that it does not have: the first request for it downloads, checks and loads.

The agent loads everything that is wanted by itself. This is for the moments in which it has not yet: vLLM has just
restarted, and requests arrive before the agent's next look. Nothing here imports vLLM; `vllm_plugin` has the one class
that does.
"""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pydantic import Field

from services.serving.decide import Wanted
from services.serving.staging import check, stage
from services.serving.wanted_file import WantedAdapter, WantedFile, read_wanted
from shared.errors import PermanentError
from shared.s3 import ArtifactStore, connect_store
from shared.served_names import SERVED_NAME
from shared.settings import S3Settings
from shared.telemetry import get_logger

log = get_logger(__name__)

_SERVED_NAME = re.compile(SERVED_NAME)


class ResolverSettings(S3Settings):
    """What the plugin inside vLLM needs to know."""

    wanted_file: Path | None = Field(
        default=None, description="the adapter agent's file of wanted adapters; the plugin does nothing without it"
    )
    resolve_timeout_seconds: float = Field(
        default=60.0, gt=0, description="how long a first request waits for its adapter before it is answered 404"
    )
    refusal_seconds: float = Field(
        default=10.0, ge=0, description="how long a name that could not be resolved is answered 404 without trying"
    )


class Fetch(Protocol):
    """Brings one adapter to the disk, checked; blocks, and raises where it must not be loaded."""

    def __call__(self, adapter: WantedAdapter, content: WantedFile) -> None: ...


class S3Fetch:
    """Stages and checks with the agent's own code. Connects at the first use: vLLM makes one in every process."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._store: ArtifactStore | None = None

    def __call__(self, adapter: WantedAdapter, content: WantedFile) -> None:
        if self._store is None:
            self._store = connect_store(self._settings)
        wanted = Wanted(adapter.name, adapter.uri, adapter.digest, adapter.root, "", "")
        manifest = stage(self._store, wanted)
        check(wanted, manifest, base_model=content.base_model, base_digest=content.base_digest,
              max_rank=content.max_rank)


class Resolver:
    """Names to folders, for one event loop.

    Whatever goes wrong is answered with None, which clients see as 404 "no such model": the gateway then asks
    another replica, while the 500 of an exception would reach the client.

    Args:
        read: the agent's wishes, read anew for every name.
        clock: seconds, monotonic.
    """

    def __init__(
        self, *, read: Callable[[], WantedFile], fetch: Fetch, timeout: float, refusal: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._fetch = fetch
        self._timeout = timeout
        self._refusal = refusal
        self._clock = clock
        self._fetching: dict[str, asyncio.Task[None]] = {}
        # By folder, so that a name's new weights are not refused for its old ones.
        self._refused: dict[str, float] = {}

    @classmethod
    def from_settings(cls, settings: ResolverSettings, wanted: Path) -> "Resolver":
        return cls(
            read=lambda: read_wanted(wanted), fetch=S3Fetch(settings), timeout=settings.resolve_timeout_seconds,
            refusal=settings.refusal_seconds,
        )

    async def resolve(self, name: str) -> str | None:
        """The folder of the adapter `name`, whole and checked; None where there is no such adapter to be had."""
        if not _SERVED_NAME.fullmatch(name):
            return None
        try:
            content = await asyncio.to_thread(self._read)
            adapter = content.adapters.get(name)
            if adapter is None or self._is_refused(adapter.root):
                return None
            if not content.base_digest:
                log.warning("adapter cannot be checked: the agent has not read the base model's digest", adapter=name)
                return None
            await asyncio.wait_for(asyncio.shield(self._fetched(adapter, content)), self._timeout)
            # It may have been dropped meanwhile, and what is dropped must not come back.
            current = (await asyncio.to_thread(self._read)).adapters.get(name)
        except TimeoutError:
            log.warning("adapter is not there yet; its download goes on", adapter=name, seconds=self._timeout)
            return None
        except Exception as error:  # noqa: BLE001 - see the class: a bug here must not fail requests with 500
            log.warning("adapter cannot be resolved", adapter=name, reason=str(error),
                        permanent=isinstance(error, PermanentError))
            return None
        return adapter.root if current == adapter else None

    def _fetched(self, adapter: WantedAdapter, content: WantedFile) -> "asyncio.Task[None]":
        """The one fetch of this folder that is under way, begun where there is none."""
        task = self._fetching.get(adapter.root)
        if task is None:
            task = asyncio.create_task(self._fetch_once(adapter, content))
            self._fetching[adapter.root] = task
            # Nobody may wait any more when it fails, and asyncio complains of errors that nobody has looked at.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _fetch_once(self, adapter: WantedAdapter, content: WantedFile) -> None:
        try:
            await asyncio.to_thread(self._fetch, adapter, content)
        except BaseException:
            self._refused[adapter.root] = self._clock() + self._refusal
            raise
        finally:
            del self._fetching[adapter.root]

    def _is_refused(self, root: str) -> bool:
        now = self._clock()
        self._refused = {root: until for root, until in self._refused.items() if until > now}
        return root in self._refused

"""Follows the file of API keys: reads it again when it changes, in a thread, away from requests."""

import threading
from collections.abc import Callable
from pathlib import Path

from shared.api_keys import KeyRing, parse_keys
from shared.errors import InvalidInputError
from shared.telemetry import get_logger

log = get_logger(__name__)

_CHECK_SECONDS = 2.0
_MAX_BYTES = 16_777_216

Mark = tuple[int, int, int]


class KeyFile:
    """A file of keys, and what was last good in it.

    Args:
        on_change: called with each new good set of keys, from the thread that `start` begins.
        on_state: called with whether the file is good, whenever it was read.
    """

    def __init__(self, path: Path, on_change: Callable[[KeyRing], None], on_state: Callable[[bool], None]) -> None:
        self._path = path
        self._on_change = on_change
        self._on_state = on_state
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="api-keys", daemon=True)
        self._mark: Mark | None = None

    def load(self) -> KeyRing:
        """The keys now, for the start.

        Raises:
            InvalidInputError: there is no good file. A gateway without its keys must not begin: open to all or closed
                to all, both would be wrong.
        """
        ring = self._read()
        self._on_state(True)
        return ring

    def start(self) -> None:
        """Begin to follow the file."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End within `timeout` seconds."""
        self._stop.set()
        self._thread.join(timeout)

    def check(self) -> None:
        """Look once, and read what has changed. What cannot be read leaves the last good keys."""
        try:
            if self._present_mark() == self._mark:
                return
            ring = self._read()
        except (InvalidInputError, OSError) as error:
            self._on_state(False)
            log.warning("the new file of API keys is not good; the last good one stays in use", path=str(self._path),
                      error=str(error))
            return
        self._on_state(True)
        log.info("API keys read", path=str(self._path), keys=len(ring.keys))
        self._on_change(ring)

    def _follow(self) -> None:
        while not self._stop.wait(_CHECK_SECONDS):
            try:
                self.check()
            except Exception:
                # Without this thread a key that was taken away would stay good.
                self._mark = None
                self._on_state(False)
                log.exception("following the file of API keys failed; it is read again", path=str(self._path))

    def _present_mark(self) -> Mark | None:
        """What tells one content from another, unread. Kubernetes swaps a link, so the inode changes, too."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> KeyRing:
        try:
            # Before the content: a change in between is seen at the next look.
            self._mark = self._present_mark()
            with self._path.open("rb") as file:
                raw = file.read(_MAX_BYTES)
            return parse_keys(raw.decode("utf-8"), source=str(self._path))
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{self._path}: not UTF-8 at byte {error.start}") from error
        except OSError as error:
            raise InvalidInputError(f"{self._path}: cannot be read: {error.strerror}") from error

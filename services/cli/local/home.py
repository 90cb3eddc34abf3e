"""Where a local stack keeps its state, and the small file that tells other commands where everything listens."""

import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.errors import TuneloopError

DEFAULT = ".tuneloop"


@dataclass(frozen=True)
class Home:
    """One local stack's folder, ``$TUNELOOP_HOME`` or ``./.tuneloop``."""

    root: Path

    @classmethod
    def find(cls) -> "Home":
        return cls(Path(os.environ.get("TUNELOOP_HOME") or DEFAULT).resolve())

    @property
    def stack_id(self) -> str:
        """Marks every process of this stack in its environment, so that none can be left behind unnoticed."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:16]

    @property
    def stack_file(self) -> Path:
        """What runs where; written by the supervisor, read by every command."""
        return self.root / "stack.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def create(self) -> None:
        """Make the folders; they hold credentials, so they are for this user alone."""
        for folder in (self.root, self.logs, self.data, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read_stack(self) -> dict[str, Any] | None:
        """The stack file's content, or None where no stack was ever started.

        Raises:
            TuneloopError: if the file is there and is not ours.
        """
        try:
            content: dict[str, Any] = json.loads(self.stack_file.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise TuneloopError(f"{self.stack_file} is damaged ({error}); delete it and start again") from error
        return content

    def write_stack(self, content: dict[str, Any]) -> None:
        """Replace the stack file in one step, so that a reader never sees half of it."""
        write_private(self.stack_file, json.dumps(content, indent=2))

    def credentials(self) -> "Credentials":
        """This stack's S3 keys, made once."""
        path = self.root / "credentials.json"
        if not path.exists():
            write_private(path, json.dumps(asdict(Credentials(secrets.token_hex(8), secrets.token_hex(20)))))
        return Credentials(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Credentials:
    """An S3 key pair."""

    access_key: str
    secret_key: str


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)

"""A local job's folder: the files by which its launcher and its keeper know of each other.

    spec.json     what to run; written once
    keeper.json   pid and start time of the process that keeps the job; whoever writes it first runs the job
    job.json      the same of the job itself
    cancel        exists once somebody cancelled the job
    exit.json     how the job ended; written last
    log           what the job wrote

Every file appears whole (written aside, then linked or renamed), so a reader never sees half of one.
"""

import os
import tempfile
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from shared.launchers.model import JobSpec

EndReason = Literal["ended", "cancelled", "timeout"]
M = TypeVar("M", bound=BaseModel)


class ProcessId(BaseModel):
    """One process of one boot of this machine: a pid alone could be somebody else by now."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: int
    boot: str


class Exit(BaseModel):
    """How a job ended."""

    model_config = ConfigDict(frozen=True)

    exit_code: int
    reason: EndReason


class JobFolder:
    """Typed access to the files of one job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self._cancel = path / "cancel"

    def create(self, spec: JobSpec) -> None:
        """Make the folder and write the spec, where that has not been done."""
        # Readable by the owner only: environment and log may tell more than others should know.
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_once("spec.json", spec)

    def spec(self) -> JobSpec | None:
        return self._read("spec.json", JobSpec)

    def claim(self, keeper: ProcessId) -> bool:
        """Become the keeper; False if there is one already, dead or alive."""
        return self._write_once("keeper.json", keeper)

    def keeper(self) -> ProcessId | None:
        return self._read("keeper.json", ProcessId)

    def write_job(self, process: ProcessId) -> None:
        self._write_once("job.json", process)

    def job(self) -> ProcessId | None:
        return self._read("job.json", ProcessId)

    def write_exit(self, end: Exit) -> None:
        self._write_once("exit.json", end)

    def exit(self) -> Exit | None:
        return self._read("exit.json", Exit)

    def mark_cancelled(self) -> None:
        self._cancel.touch()

    def is_cancelled(self) -> bool:
        return self._cancel.exists()

    def tail(self, size: int) -> str:
        """At most the last `size` bytes of the log, from the start of a line."""
        try:
            with self.log.open("rb") as file:
                length = file.seek(0, os.SEEK_END)
                file.seek(max(0, length - size))
                data = file.read()
        except FileNotFoundError:
            return ""
        if length > size:
            data = data.partition(b"\n")[2] or data
        return data.decode(errors="replace")

    def _read(self, name: str, model: type[M]) -> M | None:
        try:
            return model.model_validate_json((self.path / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write_once(self, name: str, value: BaseModel) -> bool:
        handle, aside = tempfile.mkstemp(prefix=f".{name}.", dir=self.path)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(value.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, self.path / name)
        except FileExistsError:
            return False
        finally:
            os.unlink(aside)
        return True

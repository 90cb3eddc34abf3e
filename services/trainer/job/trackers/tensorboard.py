"""TensorBoard's event files in S3, beside an attempt's checkpoints; tensorboardX writes them without TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.trainer.job.rates import Sweep
from services.trainer.job.trackers.model import End, Subject
from shared.clock import monotonic
from shared.s3 import ArtifactStore

UPLOAD_SECONDS = 30.0
"""Between two uploads: a job that is killed loses the curves of so long. A file is small, and is uploaded whole."""


class TensorBoard:
    """Writes to `folder`, and uploads to ``tensorboard/`` below `prefix`."""

    name = "tensorboard"

    def __init__(self, store: ArtifactStore, prefix: str, folder: Path) -> None:
        self._store, self._prefix, self._folder = store, prefix, folder
        self._writer: Any = None
        self._uploaded = monotonic()

    def begin(self, subject: Subject, step: int) -> None:
        """Steps that an earlier attempt made after its newest checkpoint are hidden by this one's."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step or None)
        rows = "".join(f"| {name} | {value} |\n" for name, value in subject.parameters.items())
        self._writer.add_text("recipe", f"| key | value |\n|---|---|\n{rows}", step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A scalar for each value: ``train/loss``, ``validation/loss``."""
        for name, value in values.items():
            self._writer.add_scalar(_tag(name), value, step)
        if monotonic() - self._uploaded >= UPLOAD_SECONDS:
            self._upload()

    def sweep(self, sweep: Sweep) -> None:
        """Scalars by the test's own steps: ``range_test/loss``."""
        for step, name, value in sweep.curves():
            self._writer.add_scalar(f"range_test/{name}", value, step)
        self._writer.add_text("range_test", f"{sweep.rate:g}: {sweep.why}", 0)

    def end(self, how: End) -> None:  # noqa: ARG002
        """Upload what is not yet."""
        if self._writer is not None:
            self._writer.close()
            self._upload()

    def _upload(self) -> None:
        self._writer.flush()
        for file in sorted(self._folder.iterdir()):
            self._store.put_bytes(f"{self._prefix}tensorboard/{file.name}", file.read_bytes())
        self._uploaded = monotonic()


def _tag(name: str) -> str:
    return f"validation/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"

"""A training job that halts in the middle of a step's validation, until it is told to go on.

``python -m tests.support.held_validation JOB STEP READY GO``: before the second batch of that validation it makes the
file READY, and waits for what is written to the FIFO named GO.
"""

import sys
from pathlib import Path

from services.trainer.job.__main__ import main
from services.trainer.job.validating import Validating


def held(uri: str, step: int, ready: Path, go: Path) -> int:
    """Run the job; its exit code."""
    check, batches = Validating.check_stop, 0

    def halting(self: Validating) -> None:
        nonlocal batches
        batches += self.state.global_step == step
        if batches == 2 and not ready.exists():
            ready.touch()
            go.read_text()
        check(self)

    Validating.check_stop = halting  # type: ignore[method-assign]
    return main([uri])


if __name__ == "__main__":
    sys.exit(held(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])))

"""Runs the planner: ``python -m services.rollout.plan < request.json > plan.json``.

A process of its own, so that whoever asks (the command line, for one) needs neither numpy nor the controller's code.
"""

import os
import sys

from pydantic import ValidationError

from services.rollout.plan.answer import plan
from services.rollout.plan.contract import Request
from shared.errors import InvalidInputError


def main() -> int:
    """Answer one question; the exit code. What is wrong with it is said on stderr."""
    try:
        request = Request.model_validate_json(sys.stdin.buffer.read())
        answer = plan(request, workers=os.cpu_count() or 1)
    except (ValidationError, InvalidInputError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(answer.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

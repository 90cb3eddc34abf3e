"""Compares ways to judge a canary, by simulation: ``python -m benchmarks.calibration``, or ``make calibrate``.

Writes results.json, the measured part of README.md and the pictures. Exits with 1 if a bar does not hold for tuneloop.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import scipy

from benchmarks.calibration.measure import Plan, measure, tuned_rules
from benchmarks.calibration.pictures import draw
from benchmarks.calibration.report import measured, with_measured
from benchmarks.calibration.results import Results, failed, promises

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "images"


def main() -> int:
    """Measure, write, judge; the exit code."""
    arguments = _arguments()
    if arguments.draw:
        results = Results.model_validate_json((HERE / "results.json").read_text())
    else:
        results = _measured(Plan(seed=arguments.seed), arguments.workers)
    if arguments.seed == Plan.seed:
        _write(results)
    print(measured(results))
    for verdict in failed(promises(results)):
        print(f"does not hold: {verdict.bar} ({verdict.traffic}): {verdict.measured}, the limit is {verdict.limit:.4g}",
              file=sys.stderr)
    return int(bool(failed(promises(results))))


def _measured(plan: Plan, workers: int) -> Results:
    begun = time.process_time()
    tuned = tuned_rules(plan)
    seconds = time.process_time() - begun
    results = measure(plan, tuned, workers)
    return results.model_copy(update={"machine": _machine(), "seconds": seconds + results.seconds})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--seed", type=int, default=Plan.seed,
                        help="of all random numbers; with another one nothing is written (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--draw", action="store_true", help="only write the report of results.json again")
    return parser.parse_args()


def _write(results: Results) -> None:
    (HERE / "results.json").write_text(results.model_dump_json() + "\n")
    readme = HERE / "README.md"
    readme.write_text(with_measured(readme.read_text(), results))
    draw(results, HERE, DOCS)


def _machine() -> str:
    machine = f"{platform.system()} {platform.machine()} with {os.cpu_count()} cores"
    return f"{machine}, Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"


if __name__ == "__main__":
    sys.exit(main())

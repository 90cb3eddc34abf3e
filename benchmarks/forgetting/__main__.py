"""What is left of a first task when a second is learned: ``python -m benchmarks.forgetting``.

Trains by the trainer's own jobs, on an S3 of its own. Writes results.json, the measured part of README.md and the
picture. Exits with 1 where a remedy has no effect.
"""

import argparse
from pathlib import Path

from benchmarks.forgetting.measure import measure
from benchmarks.forgetting.report import Results, draw, measured, missed, with_measured

HERE = Path(__file__).parent
SEEDS = (1, 2, 3, 4)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forgetting", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="with others nothing is written")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a seed at a time")
    parser.add_argument("--draw", action="store_true", help="only write the report of results.json again")
    options = parser.parse_args()
    if options.draw:
        results = Results.model_validate_json((HERE / "results.json").read_text("utf-8"))
    else:
        results = measure(options.seeds, options.workers)
    if sorted(options.seeds) == sorted(SEEDS):
        (HERE / "results.json").write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
        readme = HERE / "README.md"
        readme.write_text(with_measured(readme.read_text("utf-8"), results), encoding="utf-8")
        draw(results, HERE / "forgetting.png")
    print(measured(results))
    if not options.draw and (problems := missed(results)):
        raise SystemExit("missed: " + "; ".join(problems))


if __name__ == "__main__":
    main()

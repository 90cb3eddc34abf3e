"""All bars of the trainer in one command: ``python -m benchmarks.trainer train.csv``, or ``make bench-trainer``.

Each benchmark is run as its own command, one after the other, so that none disturbs another. At the end it says which
bars hold, and exits with 1 where one is missed or could not be measured.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bar:
    """What a benchmark holds its numbers against, in words, and the command that exits with 0 where they hold."""

    promise: str
    command: Sequence[str]


def bars(rows: Path, *, rounds: int, tickets: int, seeds: Sequence[int]) -> dict[str, Bar]:
    """All of them by the name of their benchmark, those that take minutes first."""
    return {
        "estimate": Bar("estimated peaks of memory are within 20 % of measured ones", ()),
        "intents": Bar("six intents from exact match 0.0 to 0.9 on rows never seen, in 4 minutes of 2 cores",
                       [str(rows)]),
        "forgetting": Bar("each remedy keeps more of a task than none does, and replay keeps both",
                          ["--seeds", *map(str, seeds)]),
        "training": Bar("1.8 times TRL's padded batches and at least the best of the others, at no worse loss, and "
                        "less than 5 s outside the loop", ["--rounds", str(rounds), "--rows", str(tickets)]),
    }


def verdict(chosen: Mapping[str, Bar], codes: Mapping[str, int]) -> str:
    """As Markdown.

    Args:
        codes: what each benchmark's command exited with.
    """
    # A command that fails exits with 1, too, as one whose bar is missed does.
    words = {name: "held" if code == 0 else f"**not held**: exit code {code}, and what it said above"
             for name, code in codes.items()}
    lines = [f"| {name} | {bar.promise} | {words[name]} |" for name, bar in chosen.items()]
    return "\n".join(["| benchmark | bar | |", "|---|---|---|", *lines])


def main() -> int:
    """Run all, whatever each says; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainer", description=__doc__)
    parser.add_argument("rows", type=Path, help="a CSV for benchmarks.intents, such as BANKING77's train.csv")
    parser.add_argument("--rounds", type=int, default=3, help="of benchmarks.training")
    parser.add_argument("--tickets", type=int, default=16, help="rows of benchmarks.training; 16: 12 minutes a round")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of benchmarks.forgetting; all: 1 2 3 4")
    given = parser.parse_args()
    if not given.rows.is_file():
        parser.error(f"{given.rows} is not there")
    chosen = bars(given.rows, rounds=given.rounds, tickets=given.tickets, seeds=given.seeds)
    codes = {}
    for name, bar in chosen.items():
        print(f"\n== benchmarks.{name}: {bar.promise}", flush=True)
        codes[name] = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *bar.command], check=False).returncode
    print(f"\n{verdict(chosen, codes)}")
    return 1 if any(codes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

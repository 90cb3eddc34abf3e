"""tuneloop's trainer beside others on the same rows: ``python -m benchmarks.training [--rows 64]``.

Contenders take turns, each in a process of its own on one thread, so that what disturbs one disturbs all.
Prints a table of medians and exits with 1 where a bar is missed.
"""

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.processes import said_by
from benchmarks.training.contender import CONTENDERS, PEERS
from benchmarks.training.outcome import Outcome
from benchmarks.training.overhead import BAR_SECONDS, overhead
from benchmarks.training.rows import KINDS
from services.cli.local.seed import base_model_folder

PADDED = "TRL, no checkpointing"
PADDED_TIMES = 1.8
# Kernels sum in another order, and steps of packed sequences hold a row more or less.
LOSS_MARGIN = 0.05


def measured(name: str, arguments: Sequence[str]) -> Outcome:
    """One run of a contender.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    return Outcome(**said_by(name, "benchmarks.training.contender", [name, *arguments], {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
    }))


def speed(outcomes: Sequence[Outcome]) -> float:
    """Real tokens per CPU second, the median of the rounds."""
    return median(outcome.tokens / outcome.cpu_seconds for outcome in outcomes)


def table(found: dict[str, list[Outcome]]) -> str:
    """As Markdown, speeds as multiples of TRL's padded batches."""
    base = speed(found[PADDED])
    lines = [
        "| | real tokens per CPU second | times TRL padded | steps | held-out loss | MB |", "|---|---|---|---|---|---|",
    ]
    for name, outcomes in found.items():
        last = outcomes[-1]
        lines.append(
            f"| {name} | {speed(outcomes):.0f} | {speed(outcomes) / base:.2f} | {last.steps} | {last.loss:.3f} "
            f"| {median(outcome.megabytes for outcome in outcomes):.0f} |"
        )
    return "\n".join(lines)


def missed(found: dict[str, list[Outcome]]) -> list[str]:
    """The bars that do not hold, in words."""
    ours, base = speed(found["tuneloop"]), speed(found[PADDED])
    best = max((name for name in found if name != "tuneloop"), key=lambda name: speed(found[name]))
    loss, reference = found["tuneloop"][-1].loss, found[PADDED][-1].loss
    problems = []
    if ours < PADDED_TIMES * base:
        problems.append(f"{ours / base:.2f} times TRL's padded batches, not {PADDED_TIMES}")
    if ours < speed(found[best]):
        problems.append(f"{ours / speed(found[best]):.2f} times {best}, not 1")
    if loss > reference + LOSS_MARGIN:
        problems.append(f"a loss of {loss:.3f} where TRL's padded batches reach {reference:.3f}")
    return problems


def installed() -> list[str]:
    """All contenders, without those that cannot be installed here."""
    names = list(CONTENDERS)
    for peer in PEERS:
        try:
            peer.python()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{peer.name} is left out, because it cannot be installed here: {error}")
        else:
            names += peer.contenders
    return names


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--kind", choices=KINDS, default="tickets")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-overhead", action="store_true", help="measure the loop alone")
    given = parser.parse_args()
    folder: Path = base_model_folder(given.model, say=print)
    arguments = ["--model", str(folder), "--kind", given.kind, "--rows", str(given.rows), "--seed", str(given.seed)]
    found: dict[str, list[Outcome]] = {name: [] for name in installed()}
    for number in range(given.rounds):
        for name, outcomes in found.items():
            outcomes.append(measured(name, arguments))
            print(f"round {number + 1}: {name}: {speed(outcomes[-1:]):.0f} tokens per CPU second", flush=True)
    print(f"\n{given.model}, {given.rows} {given.kind}, {given.rounds} rounds, one thread\n\n{table(found)}\n")
    problems = missed(found)
    if not given.no_overhead:
        bare = median(outcome.before_seconds for outcome in found[PADDED])
        ours = overhead(folder, given.model, given.seed) - bare
        print(f"outside its loop a run costs {ours:.1f} CPU seconds more than a bare TRL script ({bare:.1f})")
        if ours > BAR_SECONDS:
            problems.append(f"{ours:.1f} s of the platform's own work in a run, not {BAR_SECONDS:.0f}")
    if problems:
        raise SystemExit("missed: " + "; ".join(problems))


if __name__ == "__main__":
    main()

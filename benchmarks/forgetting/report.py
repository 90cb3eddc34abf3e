"""What was measured, as a table and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.forgetting.tasks import Family, Scores
from benchmarks.readme import between_marks

_TITLES: dict[Family, str] = {"full": "A whole model that knows task A", "adapter": "An adapter that knows task A"}
# Told apart without colour, too (Okabe and Ito's palette).
_MARKS = {"none": ("o", "#444444"), "low-rank only": ("P", "#56B4E9"), "replay": ("s", "#0072B2"),
          "ewc": ("^", "#D55E00"), "l2": ("D", "#009E73"), "gradual unfreezing": ("v", "#CC79A7")}

REMEDIES = ("replay", "ewc", "l2", "gradual unfreezing")
KEPT, LOST = 0.5, 0.1
"""Of the right answers of the first task, by replay in a whole model; and of the second task's, for that."""


class Run(BaseModel):
    """One way with one seed: the scores of both tasks before and after the second was learned."""

    seed: int
    family: Family
    name: str
    setting: str
    before: Scores
    after: Scores


class Results(BaseModel):
    """All runs, and where they were made."""

    machine: str
    runs: list[Run]


def measured(results: Results) -> str:
    """The measured part of README.md."""
    lines = [f"Means over seeds, with the least and the greatest; {len(results.runs)} runs on {results.machine}."]
    for family, title in _TITLES.items():
        runs = [run for run in results.runs if run.family == family]
        lines += ["", f"**{title}**", "", "| way | | seeds | A before | A after | B after | nats/token of A after |",
                  "|---|---|---|---|---|---|---|"]
        for (name, setting), group in _grouped(runs).items():
            cells = [_range([run.before.a for run in group]), _range([run.after.a for run in group]),
                     _range([run.after.b for run in group]), f"{_mean([run.after.nats_a for run in group]):.2f}"]
            lines.append(f"| {name} | {setting} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def missed(results: Results) -> list[str]:
    """The bars that do not hold, in words.

    Each remedy at its best setting must leave the first task's answers likelier than none does, in whole models and in
    adapters. In a whole model replay must keep at least half of the right answers, at no more than a tenth of the other
    task's.
    """
    problems = []
    for family in _TITLES:
        grouped = _grouped([run for run in results.runs if run.family == family])
        nats = {key: _mean([run.after.nats_a for run in runs]) for key, runs in grouped.items()}
        nothing = next(value for (name, _), value in nats.items() if name == "none")
        for remedy in REMEDIES:
            best = min((value for (name, _), value in nats.items() if name == remedy), default=None)
            if best is None:
                problems.append(f"{family}: {remedy} was not measured")
            elif best >= nothing:
                problems.append(f"{family}: {remedy} leaves {best:.2f} nats per token of A, and none {nothing:.2f}")
    grouped = _grouped([run for run in results.runs if run.family == "full"])
    other = next(_mean([run.after.b for run in runs]) for (name, _), runs in grouped.items() if name == "none")
    kept = {setting: (_mean([run.after.a for run in runs]), _mean([run.after.b for run in runs]))
            for (name, setting), runs in grouped.items() if name == "replay"}
    if not any(a >= KEPT and b >= other - LOST for a, b in kept.values()):
        found = ", ".join(f"{setting}: {a:.2f} and {b:.2f}" for setting, (a, b) in kept.items())
        problems.append(f"full: no replay keeps {KEPT} of A and all but {LOST} of B, which is {other:.2f} without "
                        f"({found})")
    return problems


def with_measured(text: str, results: Results) -> str:
    """A README with what was measured between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    return between_marks(text, lambda: measured(results))


def draw(results: Results, path: Path) -> None:
    """Task A's score against task B's, after B was learned: the top right corner is where nothing was lost."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharey=True)
    for axis, (family, title) in zip(axes, _TITLES.items(), strict=True):
        grouped = _grouped([run for run in results.runs if run.family == family])
        for name, (mark, colour) in _MARKS.items():
            points = [group for (other, _), group in grouped.items() if other == name]
            if points:
                x, y = ([_mean([getattr(run.after, task) for run in group]) for group in points] for task in ("b", "a"))
                axis.plot(x, y, marker=mark, color=colour, label=name, linewidth=1, markersize=8)
        axis.set(title=title, xlabel="right answers of task B", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("right answers of task A, after B")
    figure.legend(*_labels(axes), loc="lower center", ncols=len(_MARKS), frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=100, metadata={"Software": None}, pil_kwargs={"optimize": True})
    plt.close(figure)


def _labels(axes: Sequence[Any]) -> tuple[list[Any], list[str]]:
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)


def _grouped(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.name, run.setting), []).append(run)
    return grouped


def _range(values: Sequence[float]) -> str:
    return f"{_mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

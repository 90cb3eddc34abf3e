"""Draws what was measured, and the picture that explains it (docs/rollouts.md)."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from benchmarks.calibration import controller, rules
from benchmarks.calibration.results import (
    ALPHA,
    ARGO,
    BY_LOOK,
    BY_REQUEST,
    CONTENDERS,
    FLAGGER,
    MANN_WHITNEY,
    NO_USERS,
    OURS,
    Z_TEST,
    Results,
)
from benchmarks.calibration.scenarios import (
    IID,
    LOOKS,
    NO_CHANGE,
    TENFOLD,
    THREEFOLD,
    TRAFFIC,
    Floats,
    Hypothesis,
)
from benchmarks.calibration.traffic import Bools, counters

_LOOKS = np.arange(1, LOOKS + 1)
# Told apart without colour, too (Okabe and Ito's palette, and dashes).
_STYLES: dict[str, dict[str, Any]] = {
    OURS: {"color": "#0072B2", "linewidth": 2.6},
    BY_REQUEST: {"color": "#56B4E9", "linestyle": (0, (5, 1))},
    NO_USERS: {"color": "#0072B2", "linestyle": (0, (1, 1)), "linewidth": 1.8},
    FLAGGER: {"color": "#E69F00", "linestyle": "--"},
    ARGO: {"color": "#D55E00", "linestyle": "-."},
    Z_TEST: {"color": "#444444", "linestyle": ":", "linewidth": 2.0},
    MANN_WHITNEY: {"color": "#009E73", "linestyle": (0, (3, 1, 1, 1))},
    BY_LOOK: {"color": "#CC79A7", "linestyle": (0, (7, 2))},
}
_STYLE: Any = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "figure.dpi": 100,
    "axes.grid": True, "grid.alpha": 0.25,
}


def draw(results: Results, here: Path, docs: Path) -> list[Path]:
    """Write all pictures; where they are.

    Args:
        here: the folder of the two that show what was measured.
        docs: the folder of the one that explains it.
    """
    mpl.use("Agg")
    with plt.rc_context(_STYLE):
        return [
            _saved(_false_rollbacks(results), here / "false-rollbacks.png"),
            _saved(_found(results), here / "found.png"),
            _saved(_explained(results.seed), docs / "peeking.png"),
        ]


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None}, pil_kwargs={"optimize": True})
    plt.close(figure)
    return path


def _shares(results: Results, contender: str, traffic: str, hypothesis: Hypothesis) -> Floats | None:
    """Rolled back by each look, in percent."""
    cell = results.cell(contender, traffic, hypothesis.name)
    return None if cell is None else 100 * np.cumsum(cell.rolled_back) / cell.runs


def _lines(axes: Any, results: Results, traffic: str, hypothesis: Hypothesis) -> None:
    for contender in reversed(CONTENDERS):
        shares = _shares(results, contender, traffic, hypothesis)
        if shares is not None:
            axes.plot(_LOOKS, shares, label=contender, **_STYLES[contender])
    axes.set_xlim(1, LOOKS)


def _false_rollbacks(results: Results) -> Any:
    measured = [kind for kind in TRAFFIC if results.cell(OURS, kind.name, NO_CHANGE.name) is not None]
    # The last place is the legend's.
    figure, grid = plt.subplots(3, 4, figsize=(14, 9), sharex=True, sharey=True, constrained_layout=True)
    for axes, kind in zip(grid.flat[:-1], measured, strict=False):
        _lines(axes, results, kind.name, NO_CHANGE)
        axes.axhline(100 * ALPHA, color="black", linewidth=0.8)
        axes.set_title(kind.name)
    for axes in grid[:, 0]:
        axes.set_ylabel("rolled back by then, %")
    for axes in grid.flat[:len(measured)][-grid.shape[1]:]:  # the lowest of each column
        axes.set_xlabel("look")
        axes.tick_params(labelbottom=True)
    for axes in grid.flat[len(measured):]:
        axes.axis("off")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    grid.flat[-1].legend(handles[::-1], labels[::-1], loc="center", frameon=False)
    figure.suptitle("Harmless candidates that were rolled back, by look; the black line is the promised 5 %")
    return figure


def _found(results: Results) -> Any:
    figure, row = plt.subplots(1, 3, figsize=(13, 3.9), sharey=True, constrained_layout=True)
    for axes, (traffic, hypothesis, end) in zip(
        row, ((IID, THREEFOLD, LOOKS), (IID, TENFOLD, 40), ("clustered", TENFOLD, 40)), strict=True
    ):
        _lines(axes, results, traffic, hypothesis)
        axes.set_xlim(1, end)
        axes.set_title(f"{hypothesis.title}, {traffic}")
        axes.set_xlabel("look")
    row[0].set_ylabel("rolled back by then, %")
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", frameon=False)
    figure.suptitle("Bad candidates that were rolled back, by look")
    return figure


# --- The picture that explains --------------------------------------------------------------------

_SHOWN = 60


def _explained(seed: int) -> Any:
    """Evidence against the same candidates at each look, of a test to be asked once, and of one that may be watched."""
    figure, row = plt.subplots(1, 3, figsize=(13, 4.1), sharey=True, constrained_layout=True)
    z_test, harmless = _evidence(NO_CHANGE, seed)
    _, bad = _evidence(TENFOLD, seed)
    for axes, paths, title in (
        (row[0], z_test, "a z-test, asked at every look (1/p)"),
        (row[1], harmless, "the e-value of harm, same candidates"),
        (row[2], bad, "the e-value of harm, 1 % → 10 %"),
    ):
        _paths(axes, paths, title)
    row[0].set_ylabel("evidence against the candidate")
    return figure


def _evidence(hypothesis: Hypothesis, seed: int) -> tuple[Floats, Floats]:
    """1/p of the z-test, and the controller's e-value, at each look of some rollouts; ``[runs, LOOKS]``."""
    traffic = TRAFFIC[0]
    drawn = counters(traffic, hypothesis, _SHOWN, np.random.default_rng([seed, _SHOWN]))
    policy = controller.policy_for(traffic)
    read = controller.read_all(drawn, policy)
    inverse = 1.0 / rules.z_p_values(read.stable, read.candidate)
    return inverse, np.exp(controller.evidence(read, traffic, policy).harm)


def _paths(axes: Any, paths: Floats, title: str) -> None:
    crossed: Bools = np.asarray((paths >= 1 / ALPHA).any(axis=1))
    for path, over in zip(paths, crossed, strict=True):
        axes.plot(_LOOKS, path, color="#C2410C" if over else "#9AA3AF", linewidth=1.1 if over else 0.7,
                  zorder=3 if over else 2)
    axes.axhline(1 / ALPHA, color="black", linewidth=1.0, linestyle="--", zorder=4)
    axes.set(yscale="log", ylim=(0.02, 2000), xlim=(1, LOOKS), xlabel="look", title=title)
    axes.text(0.98, 0.03, f"{crossed.sum()} of {len(paths)} would be rolled back", transform=axes.transAxes, ha="right",
              bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8}, zorder=5)

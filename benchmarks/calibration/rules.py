"""What others do, on the same counters: tests, repeated at each look, and two kinds of rules.

Each says at which looks of which rollout it would roll back. What is not rolled back in the end is promoted, which is
what these tools do. All read counters as PromQL's `increase` does (a counter that fell began anew), but exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Literal

import numpy as np
from scipy import stats

from benchmarks.calibration.controller import first
from benchmarks.calibration.scenarios import LOOKS, Floats
from benchmarks.calibration.traffic import Bools, Counters, Ints
from services.rollout.analysis.asymptotic import difference_by_look

# The z-test waits until so many bad events were seen in all, as textbooks ask.
_Z_LEAST = 5
# Kayenta's own confidence level, two-sided; and from how many samples on its test is repeated.
_KAYENTA_CONFIDENCE, _KAYENTA_LEAST = 0.98, 10


@dataclass(frozen=True)
class Increases:
    """Bad and all requests between this scrape and the last one; nothing where there was none; ``[runs, LOOKS, 2]``."""

    stable: Floats
    candidate: Floats
    control: Floats
    data: Bools


def increases(counters: Counters) -> Increases:
    """What a PromQL query would see."""
    values = counters.requests.astype(np.float64)
    series = np.stack([values[..., 0], values[..., 1] - values[..., 0]], axis=-1)
    grown, last = np.zeros_like(series), np.zeros_like(series[:, 0])
    for look in range(LOOKS):
        data, now = counters.data[:, look, None, None], series[:, look]
        grown[:, look] = np.where(data, np.where(now >= last, now - last, now), 0.0)
        last = np.where(data, now, last)
    bad, good = grown[..., 0], grown[..., 1]
    counted = np.stack([bad, bad + good], axis=-1)
    return Increases(counted[:, :, 0], counted[:, :, 1], counted[:, :, 2], counters.data)


def peeking_z_test(seen: Increases, alpha: float) -> Bools:
    """A one-sided test of two proportions at level `alpha` on all requests so far, asked again at every look."""
    fired: Bools = seen.data & (z_p_values(seen.stable, seen.candidate) < alpha)
    return fired


def z_p_values(stable: Floats, candidate: Floats) -> Floats:
    """The p-values of that test at each look; 1 until it has seen bad events enough; ``[runs, looks]``.

    Args:
        stable, candidate: ``[runs, looks, 2]`` bad and all requests of each look.
    """
    s, c = np.cumsum(stable, axis=1), np.cumsum(candidate, axis=1)
    bad, total = s[..., 0] + c[..., 0], s[..., 1] + c[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = bad / total
        spread = np.sqrt(pooled * (1 - pooled) * (1 / s[..., 1] + 1 / c[..., 1]))
        z = (c[..., 0] / c[..., 1] - s[..., 0] / s[..., 1]) / spread
    p: Floats = np.where((bad >= _Z_LEAST) & np.isfinite(z), stats.norm.sf(np.nan_to_num(z)), 1.0)
    return p


def repeated_mann_whitney(seen: Increases) -> Bools:
    """Kayenta's comparison: the candidate's bad rates per look against the control arm's, asked again at every look.

    Looks without requests have the rate 0, Kayenta's replacement for missing error rates. Its tolerance is left out: it
    is a share of the difference of medians, and most rates are 0.
    """
    runs = len(seen.data)
    rates = [np.where(arm[..., 1] > 0, arm[..., 0] / np.maximum(arm[..., 1], 1.0), 0.0)
             for arm in (seen.candidate, seen.control)]
    # Samples without gaps: the k-th is that of the k-th look with data.
    order = np.argsort(~seen.data, axis=1, kind="stable")
    candidate, control = (np.take_along_axis(rate, order, axis=1) for rate in rates)
    samples = seen.data.sum(axis=1)
    fired = np.zeros((runs, LOOKS), dtype=np.bool_)
    for k in range(_KAYENTA_LEAST, int(samples.max()) + 1):
        has = np.flatnonzero(samples >= k)
        x, y = candidate[has, :k], control[has, :k]
        # Where all rates are equal there is nothing to rank.
        ranked = has[(x.max(axis=1) > 0) | (y.max(axis=1) > 0)]
        if len(ranked):
            p = stats.mannwhitneyu(candidate[ranked, :k], control[ranked, :k], alternative="greater",
                                   method="asymptotic", axis=1).pvalue
            fired[ranked, order[ranked, k - 1]] = p < (1 - _KAYENTA_CONFIDENCE) / 2
    return fired


def differences_by_look(seen: Increases, alpha: float) -> Bools:
    """Where the asymptotic confidence sequence of the difference is above 0: it would prove harm so, at `alpha`."""
    look = np.concatenate([seen.stable, seen.candidate], axis=-1)
    products = np.cumsum(look[..., :, None] * look[..., None, :], axis=1)
    looks = np.cumsum(look.any(axis=-1), axis=1)
    # It has two ends, of which one is asked for.
    middle, half = difference_by_look(looks, np.cumsum(look, axis=1), products, 2 * alpha)
    fired: Bools = seen.data & (middle > half)
    return fired


@dataclass(frozen=True)
class Rule:
    """A check at each look that may fail so often.

    Attributes:
        kind: what is checked: the candidate's bad rate (Flagger's request-success-rate), or by how much it exceeds
            stable's (a query for Argo Rollouts).
        window: looks that the rate is of.
        threshold: above it the check fails.
        failures: at so many failed checks it rolls back.
        consecutive: they must follow each other.
        no_data_fails: Flagger counts a check without data as failed; Argo Rollouts, with a failure condition only,
            takes it as passed.
    """

    kind: Literal["rate", "difference"]
    window: int
    threshold: float
    failures: int
    consecutive: bool
    no_data_fails: bool

    def fired(self, seen: Increases) -> Bools:
        """At which looks it rolls back."""
        return self.fired_at(*_value(self.kind, self.window, seen))

    def fired_at(self, value: Floats, known: Bools) -> Bools:
        """The same for what is checked, ``[runs, LOOKS]``, and where it is known."""
        failed = np.where(known, value > self.threshold, self.no_data_fails)
        count = _consecutive(failed) if self.consecutive else np.cumsum(failed, axis=1)
        fired: Bools = count >= self.failures
        return fired

    @property
    def words(self) -> str:
        """What was tuned, for people."""
        what = "bad rate" if self.kind == "rate" else "bad rate less stable's"
        how = "in a row " if self.consecutive else ""
        return f"{what} over {self.window} min above {self.threshold:.1%}, {self.failures} failed checks {how}roll back"


def _value(kind: str, window: int, seen: Increases) -> tuple[Floats, Bools]:
    """What is checked, and where it is known."""
    arms = {"rate": (seen.candidate,), "difference": (seen.candidate, seen.stable)}[kind]
    summed = [_windowed(arm, window) for arm in arms]
    known = np.logical_and.reduce([arm[..., 1] > 0 for arm in summed])
    rates = [arm[..., 0] / np.maximum(arm[..., 1], 1.0) for arm in summed]
    return (rates[0] if kind == "rate" else rates[0] - rates[1]), known


def _windowed(counts: Floats, window: int) -> Floats:
    total = np.cumsum(counts, axis=1)
    total[:, window:] = total[:, window:] - total[:, :-window]
    return total


def _consecutive(failed: Bools) -> Ints:
    """How many failed checks in a row end at each look."""
    looks = np.arange(1, LOOKS + 1)
    passed: Ints = np.maximum.accumulate(np.where(failed, 0, looks), axis=1)
    return looks - passed


# --- Tuning ---------------------------------------------------------------------------------------

_WINDOWS = (1, 2, 5, 10, 20, 30)
_THRESHOLDS = tuple(round(0.005 * k, 3) for k in range(1, 41))
_FAILURES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def flagger_like() -> Iterator[Rule]:
    """The rate over a threshold; failed checks are never forgotten."""
    for window, threshold, failures in product(_WINDOWS, _THRESHOLDS, _FAILURES):
        yield Rule("rate", window, threshold, failures, consecutive=False, no_data_fails=True)


def argo_like() -> Iterator[Rule]:
    """The difference to stable over a threshold; failed measurements in all (`failureLimit`) or in a row."""
    for window, threshold, failures, consecutive in product(_WINDOWS, _THRESHOLDS, _FAILURES, (False, True)):
        yield Rule("difference", window, threshold, failures, consecutive=consecutive, no_data_fails=False)


def tuned(rules: Iterator[Rule], harmless: Increases, worse: Sequence[Increases], alpha: float) -> Rule:
    """Of the rules that roll back at most `alpha` of `harmless`, the one that on average finds `worse` soonest.

    What is not found counts as found after the last look.

    Raises:
        ValueError: every rule rolls back more.
    """
    best: tuple[float, Rule] | None = None
    for (kind, window), alike in groupby(rules, key=lambda rule: (rule.kind, rule.window)):
        ruled, *found = (_value(kind, window, seen) for seen in (harmless, *worse))
        for rule in alike:
            if rule.fired_at(*ruled).any(axis=1).mean() > alpha:
                continue
            looks = [first(rule.fired_at(*values)) for values in found]
            delay = float(np.mean([np.where(at > 0, at, LOOKS + 1).mean() for at in looks]))
            if best is None or delay < best[0]:
                best = delay, rule
    if best is None:
        raise ValueError(f"every rule rolls back more than {alpha:.0%} of harmless candidates; widen the grid")
    return best[1]

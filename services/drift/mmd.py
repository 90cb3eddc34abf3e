"""How far a window's embeddings are from the reference's: maximum mean discrepancy (Gretton et al. 2012). Pure.

With a Gaussian kernel whose width is the median distance within the reference. Two tests; the larger p-value counts:

- **Block permutation**: blocks of neighbours in time change sides, not single samples. Samples that come in runs, such
  as one client's, do not look like more than they are.
- **Bootstrap around the reference**: windows, and an error of the reference, are drawn from the reference itself; that
  error is always as large as it is with probability 1 - `REFERENCE_RISK`. It makes the p-value good for looking again
  and again at one reference, as `services.drift.statistics` explains.
"""

import math

import numpy as np
from numpy.typing import NDArray

from services.drift.statistics import MIN_REFERENCE, REFERENCE_RISK, SHOWN_QUANTILE, Comparison

Matrix = NDArray[np.float64]
DRAWS = 999
BLOCK = 5
_MIN_WINDOW = 20


def compare_embeddings(reference: Matrix, window: Matrix, *, seed: int) -> Comparison | None:
    """The comparison of two sets of embeddings; None where one side has too few to say anything.

    Args:
        reference: (rows, dimensions).
        window: (samples, dimensions), in the order of time.
        seed: of the draws, so that the same window always gives the same numbers.
    """
    m, n = len(reference), len(window)
    if m < MIN_REFERENCE or n < _MIN_WINDOW:
        return None
    rng = np.random.default_rng(seed)
    kernel = _kernel(np.vstack([reference, window]), m)
    sides = np.concatenate([np.full(m, -1 / m), np.full(n, 1 / n)])
    observed = float(_squared(kernel, sides[None, :])[0])
    permuted = _squared(kernel, _block_sides(rng, m, n))
    around = _squared(kernel[:m, :m], _windows_of_reference(rng, kernel[:m, :m], n))
    return Comparison(
        statistic=math.sqrt(max(0.0, observed)), p_value=max(_p_value(observed, permuted), _p_value(observed, around)),
        threshold=math.sqrt(max(0.0, float(np.quantile(permuted, SHOWN_QUANTILE)))), window=n, reference=m, largest=[],
    )


def _kernel(points: Matrix, rows: int) -> Matrix:
    """Of all pairs; its width is of the reference alone, so that it is the same in all windows."""
    squares = (points**2).sum(axis=1)
    distances = np.maximum(0.0, squares[:, None] + squares[None, :] - 2 * points @ points.T)
    width = float(np.median(distances[:rows, :rows][np.triu_indices(rows, 1)])) or 1.0
    kernel: Matrix = np.exp(-distances / width)
    return kernel


def _squared(kernel: Matrix, weights: Matrix) -> Matrix:
    """Squared length of each row's weighted sum in the kernel's space."""
    squared: Matrix = np.einsum("ij,ij->i", weights @ kernel, weights)
    return squared


def _block_sides(rng: np.random.Generator, m: int, n: int) -> Matrix:
    """Weights as of reference and window, after blocks of neighbours were shuffled."""
    blocks = np.array_split(np.arange(m), math.ceil(m / BLOCK)) + np.array_split(m + np.arange(n), math.ceil(n / BLOCK))
    weights = np.full((DRAWS, m + n), -1 / m)
    for row in weights:
        order = np.concatenate([blocks[place] for place in rng.permutation(len(blocks))])
        row[order[:n]] = 1 / n
    return weights


def _windows_of_reference(rng: np.random.Generator, kernel: Matrix, n: int) -> Matrix:
    """Weights of windows that are like the reference, each with an error of the reference added."""
    m = len(kernel)
    even = np.full(m, 1 / m)
    windows = rng.multinomial(n, even, size=DRAWS) / n - even
    errors = rng.multinomial(m, even, size=DRAWS) / m - even
    lengths = np.sqrt(np.maximum(_squared(kernel, errors), 1e-300))
    worst = np.quantile(lengths, 1 - REFERENCE_RISK)
    # A draw from m rows varies less than one from what the rows were drawn from, by this much.
    weights: Matrix = (windows + errors * (worst / lengths)[:, None]) * math.sqrt(m / (m - 1))
    return weights


def _p_value(observed: float, drawn: Matrix) -> float:
    return float((1 + (drawn >= observed).sum()) / (1 + len(drawn)))

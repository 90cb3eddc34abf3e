"""The statistics of a canary: evidence that may be looked at after every scrape without spending its guarantee.

Everything here is pure. A guardrail is a count of bad events over a total, for the stable version and for the
candidate, and one *look* is the increments of those four counts since the look before. The evidence is a set of
e-processes, products over looks of likelihood ratios, so by Ville's inequality

    P(the evidence ever reaches 1/a while the null hypothesis holds) <= a

however often one looks, whenever one stops, and whatever the share of traffic or the base rate do in between.

**Two versions** (Lindon & Malek, NeurIPS 2022, arXiv 2205.14762). Let `w` be the candidate's realised share of a
look's total, and `rho` the candidate's bad rate over stable's. Given all bad events of the look, those of the candidate
are Binomial(bad, q) with q = w rho / (1 - w + w rho). A look multiplies the evidence for `rho1` against `rho0` by

    (q1/q0)^x ((1-q1)/(1-q0))^y        x, y: bad events of the candidate and of stable

The Binomial is exact for rare (Poisson) events. For requests that each fail or not it is conservative at *any* rate:
with m and n requests at rates p = rho0 r and r, the factor's expectation is

    (1 + p (q1/q0 - 1))^m  (1 + r ((1-q1)/(1-q0) - 1))^n

Each part is at most exp of its linear term, and those terms cancel. The factor is monotone in x, so the one-sided
nulls (``rho <= 1`` for harm, ``rho >= margin`` for safety) are covered too.

**One rate against a bound.** Without any bad event the ratio above never moves, so safety has a second test: the
candidate's rate against `tolerableRate`, by the binomial likelihood ratio, null ``rate >= tolerableRate``.

**Mixtures.** The true ratio is unknown, so each test is an average over a fixed grid of alternatives with prior
weights: an average of products, kept per alternative in log space. (A product of averages would be something else.)

**Safe** means: the ratio is below the margin *or* the rate is below what is tolerable. Its null is that both are
exceeded, under which both tests are e-processes, so their average is one. (Their maximum is not.)

What this does not cover: bad events that come in clusters, many from one user, are not independent and look like more
evidence than they are.
"""

from services.rollout.analysis.evidence import HARM_RATIOS, SAFE_SHARES, SAFE_WEIGHTS, Evidence
from services.rollout.analysis.values import Bounds, Counts, Interval

__all__ = ["HARM_RATIOS", "SAFE_SHARES", "SAFE_WEIGHTS", "Bounds", "Counts", "Evidence", "Interval"]

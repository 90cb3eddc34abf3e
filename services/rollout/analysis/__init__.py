"""The statistics of a canary: evidence that may be looked at after every scrape without spending its guarantee.

Everything here is pure. A guardrail is a count of bad events over a total, for the stable version and for the
candidate, and one *look* is the increments of those counts since the look before. The evidence is a set of e-processes,
products over looks of factors that are expected to be at most one, so by Ville's inequality

    P(the evidence ever reaches 1/a while the null hypothesis holds) <= a

however often one looks, whenever one stops, and whatever the share of traffic or the base rate do in between.

**Two versions** (`ratio.py`; Lindon & Malek, NeurIPS 2022, arXiv 2205.14762). Let `w` be the candidate's share of the
traffic, and `rho` its bad rate over stable's. Given all bad events of a look, those of the candidate are
Binomial(bad, q) with q = w rho / (1 - w + w rho). A look multiplies the evidence for `rho1` against `rho0` by

    (q1/q0)^x ((1-q1)/(1-q0))^y        x, y: bad events of the candidate and of stable

What is counted as an event makes the difference (`countBy` of a guardrail):

- *by unit*: a unit (user, session, or a request that names none) when it meets its first bad event, whichever version
  it meets it with. Its place in the split was drawn by a hash, and until then nothing that was counted told of it. If
  the candidate is no worse, the event is the candidate's with probability `w`, independently of everything before. That
  is exact, whatever the weight and the base rate do, and however bad events cling to units. (`evidence.py` also counts
  fourth and sixteenth bad events, for when they are common.)
- *by request*: every bad request, with the realised share of the look's requests as `w`. The Binomial is exact for
  rare (Poisson) events. For requests that each fail or not, independently, it is conservative at *any* rate: with m and
  n requests at rates p = rho0 r and r, the factor's expectation is

      (1 + p (q1/q0 - 1))^m  (1 + r ((1-q1)/(1-q0) - 1))^n

  Each part is at most exp of its linear term, and those terms cancel. The factor is monotone in x, so the one-sided
  nulls (``rho <= 1`` for harm, ``rho >= margin`` for safety) are covered too. Where bad events are common (stable's
  rate before the look was above a tenth), the whole 2x2 table is used (`tables.py`).
- *by interval*: the candidate's share of a look's bad events, as one observation: the average of the events' factors
  instead of their product. It stays valid if bad events cluster within a look, but not if they do over many.

- *by pair*: where requests are copied to the candidate, a unit for whom one of the two answers to the same request was
  bad, and the other was not, for the first time. That is a sign test: at even odds, whatever the base rate is. Only
  what the versions do differently counts, and what both fail at is left out.

**One rate against a bound.** Without any bad event the ratio above never moves, so safety has a second test: the
candidate's rate against `tolerableRate`, by the binomial likelihood ratio, null ``rate >= tolerableRate``.

**Mixtures.** The true ratio is unknown, so each test is an average over a fixed grid of alternatives with prior
weights: an average of products, kept per alternative in log space. (A product of averages would be something else.)

**Safe** means: the ratio is below the margin *or* the rate is below what is tolerable. Its null is that both are
exceeded, under which both tests are e-processes, so their average is one. (Their maximum is not.) It is always by
request, because that is what `margin` and `tolerableRate` speak of. Where units are counted, the logs are divided by
how much bad requests clump; that is a correction and no proof, unlike the guarantee on harm.

Beside evidence there is what is shown, and decides A/B tests: confidence sequences for shares and quantiles
(`proportions.py`), for means (`bounded.py`), for the difference of shares of what names no user (`asymptotic.py`), and
the test of the split itself (`sample_ratio.py`).
"""

from services.rollout.analysis.clumps import UnitLook
from services.rollout.analysis.evidence import HARM_RATIOS, SAFE_SHARES, SAFE_WEIGHTS, Evidence, PairLook
from services.rollout.analysis.sample_ratio import SampleRatio
from services.rollout.analysis.values import Bounds, Counts, Interval

__all__ = [
    "HARM_RATIOS", "SAFE_SHARES", "SAFE_WEIGHTS", "Bounds", "Counts", "Evidence", "Interval", "PairLook", "SampleRatio",
    "UnitLook",
]

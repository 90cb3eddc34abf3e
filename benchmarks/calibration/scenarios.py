"""What is simulated: kinds of traffic, and how much worse the candidate is. Constants, chosen before the first run.

A look is a minute, a rollout is 120 looks, and about 60 requests arrive in each where nothing else is said.
What is added stands last, because the place of a scenario is part of its seed.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LOOKS = 120
WEIGHT = 0.1
_MINUTES = np.arange(LOOKS)
_ONE: Floats = np.ones(LOOKS)


@dataclass(frozen=True, eq=False)
class Traffic:
    """How requests arrive and hang together, whoever answers them.

    Attributes:
        name: one word.
        title: in words, for reports.
        volume: expected requests per look, ``[LOOKS]``.
        base: by what the hypothesis' bad rates are multiplied, ``[LOOKS]``, at least 1.
        weights: the candidate's share, ``[LOOKS]``; never falls.
        users: distinct ones who take turns, some of them far more often than others; 0: requests name nobody.
        session: requests come in sessions of so many on average (geometric), each of them within one look and by a user
            who never comes again; 0: they do not.
        severity: bad events cling to users: so large a share of an affected user's requests is bad, and nobody else's.
            0: each request is bad or not, independently.
        gaps: the chance that a look has no data.
        outage: so many looks in a row without data, at a random time.
        gateways: so many share the requests; whoever asks twice may meet two of them.
        restarts: the chance, per look, that the gateways restart: counters begin at zero, what was counted since the
            last scrape is lost, and so is whom they had seen. Whom they told of is known.
    """

    name: str
    title: str
    volume: Floats
    base: Floats
    weights: Floats
    users: int = 0
    severity: float = 0.0
    gaps: float = 0.0
    outage: int = 0
    restarts: float = 0.0
    gateways: int = 1
    session: float = 0.0

    @property
    def named(self) -> bool:
        """Whether requests name a user."""
        return self.users > 0 or self.session > 0


@dataclass(frozen=True)
class Hypothesis:
    """Bad rates of stable and candidate."""

    name: str
    title: str
    stable: float
    candidate: float


_PLAIN = Traffic("iid", "independent requests", 60 * _ONE, _ONE, WEIGHT * _ONE)
_DAYS = (1 - np.cos(2 * np.pi * _MINUTES / 60)) / 2
_RAMP = np.repeat([0.05, 0.1, 0.25, 0.5, 0.75, 0.9], LOOKS // 6)

TRAFFIC: tuple[Traffic, ...] = (
    _PLAIN,
    replace(_PLAIN, name="clustered", title="bad events cling to users: 600 users, half of an affected one's requests",
            users=600, severity=0.5),
    replace(_PLAIN, name="diurnal", title="two days of 60 looks: 20 to 100 requests per look, the bad rate triples "
            "with them", volume=20 + 80 * _DAYS, base=1 + 2 * _DAYS),
    replace(_PLAIN, name="ramp", title="weights 5, 10, 25, 50, 75, 90 % while the bad rate triples",
            base=1 + 2 * _MINUTES / (LOOKS - 1), weights=_RAMP),
    replace(_PLAIN, name="gaps", title="every fifth look has no data, and ten in a row have none", gaps=0.2, outage=10),
    replace(_PLAIN, name="resets", title="600 users; the gateway restarts every 40 looks, and forgets", users=600,
            restarts=1 / 40),
    Traffic("all", "all of it at once", 20 + 80 * _DAYS, 1 + 2 * _DAYS, _RAMP, users=600, severity=0.5, gaps=0.2,
            outage=10, restarts=1 / 40),
    replace(_PLAIN, name="gateways", title="600 users, each of whom meets three gateways; bad events cling to "
            "users", users=600, severity=0.5, gateways=3),
    replace(_PLAIN, name="quiet", title="5 independent requests per look", volume=5 * _ONE),
    replace(_PLAIN, name="sessions", title="bad events cling to sessions of ten requests, which end within a look: "
            "half of an affected one's requests", session=10.0, severity=0.5),
)
IID = _PLAIN.name

NO_CHANGE = Hypothesis("no change", "1 % → 1 %", 0.01, 0.01)
MARGIN = Hypothesis("margin", "2.5 % → 5 %, the default margin and tolerable rate", 0.025, 0.05)
THREEFOLD = Hypothesis("threefold", "1 % → 3 %", 0.01, 0.03)
TENFOLD = Hypothesis("tenfold", "1 % → 10 %", 0.01, 0.1)
COMMON = Hypothesis("no change, common", "5 % → 5 %", 0.05, 0.05)
TWOFOLD = Hypothesis("twofold", "1 % → 2 %", 0.01, 0.02)
# Of A/B tests, which have halves of the traffic.
EQUAL = Hypothesis("equal", "10 % → 10 %", 0.1, 0.1)
BETTER = Hypothesis("better", "15 % → 10 %", 0.15, 0.1)
MUCH_BETTER = Hypothesis("much better", "20 % → 10 %", 0.2, 0.1)
HYPOTHESES: tuple[Hypothesis, ...] = (NO_CHANGE, MARGIN, THREEFOLD, TENFOLD, COMMON, TWOFOLD)

"""When to raise an alarm: an e-detector, whose false alarms are as rare as the policy says. Pure.

Each window's p-value becomes an e-value, whose mean is at most 1 without drift. The Shiryaev-Roberts form of an
e-detector (Shin, Ramdas & Rinaldo, arXiv 2203.03532) adds up the e-processes that begin at each window,

    M = e (1 + M),

so that a change is found whenever it comes. Without drift M minus the number of windows is a supermartingale: the time
until M first reaches A is at least A windows on average. F features share a route's alarms: with F A for each, the mean
of the F detectors is below A until the first alarm, and the first alarm of any comes after A windows on average, at
least, however the features depend on each other.
"""

# p to the power of -1/2, halved: the mean of it is 1 for a uniform p (Vovk & Wang 2021).
_POWER = -0.5
_SCALE = 0.5
# Approximations are not to be believed further out; an e-value is 500 at most.
_SMALLEST_P = 1e-6
# Nothing more is learned from larger numbers, and JSON has no infinity.
_LARGEST_EVIDENCE = 1e12


def e_value(p_value: float) -> float:
    """The evidence of one window against "no drift"."""
    return float(_SCALE * max(p_value, _SMALLEST_P) ** _POWER)


def detect(evidence: float, p_value: float) -> float:
    """The detector's value after one more window."""
    return min(_LARGEST_EVIDENCE, e_value(p_value) * (1 + evidence))


def threshold(average_run: int, features: int) -> float:
    """What a detector must reach for an alarm.

    Args:
        average_run: windows between two false alarms of all features together, on average.
        features: how many can raise an alarm.
    """
    return float(average_run * max(1, features))

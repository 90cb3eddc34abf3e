"""What the gateway counts and the rollout controller reads: names of series, and bounds of histograms.

A guardrail's SLO must be one of the bounds, because between two of them nothing is counted.
"""

from typing import Literal, get_args

PREFIX = "tuneloop_gateway_"
REQUESTS = f"{PREFIX}requests_total"
ANSWERS = f"{PREFIX}answers_total"
STRUCTURED = f"{PREFIX}structured_answers_total"
FEEDBACK = f"{PREFIX}feedback_total"
FEEDBACK_SCORE = f"{PREFIX}feedback_score_total"
TOKENS = f"{PREFIX}tokens_total"
SHADOW = f"{PREFIX}shadow_total"
DURATION = f"{PREFIX}request_duration_seconds"
FIRST_TOKEN = f"{PREFIX}time_to_first_token_seconds"
INTER_TOKEN = f"{PREFIX}inter_token_seconds"
MEAN_GAP = f"{PREFIX}request_inter_token_seconds"
SHADOW_PAIRS = f"{PREFIX}shadow_pairs_total"
SHADOW_DURATION = f"{PREFIX}shadow_duration_seconds"
UNITS = f"{PREFIX}units_seen"
# Which revision of a route is in effect, and since when (Unix time) the versions have had the weights that they have.
# How many model servers may answer for a version, and how often one was skipped because it failed.
ROUTE_REPLICAS = f"{PREFIX}route_replicas"
EJECTIONS = f"{PREFIX}replica_ejections_total"
ROUTE_REVISION = f"{PREFIX}route_revision"
SPLIT_SINCE = f"{PREFIX}route_split_since_timestamp_seconds"

DURATION_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
FIRST_TOKEN_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
INTER_TOKEN_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

# The counters that have a model version, by the names that PromQL knows them by.
SERIES = frozenset({
    REQUESTS, ANSWERS, STRUCTURED, FEEDBACK, FEEDBACK_SCORE, SHADOW, SHADOW_PAIRS, TOKENS,
    *(f"{name}_{part}" for name in (DURATION, FIRST_TOKEN, INTER_TOKEN, MEAN_GAP, SHADOW_DURATION)
      for part in ("bucket", "count")),
})

# Units (users, sessions, or requests that name none) by what they met, each at most once under a route's present salt
# with whichever version it was: `event` is "served" where a version answers a unit for the first time ("unnamed" where
# that is a request that names none, which no other gateway can meet), "judged" where somebody judged a unit's answer,
# or the name of a guardrail's metric where a unit met its first, fourth or sixteenth bad event of that kind (`times`),
# for durations longer than `le` seconds. Each gateway counts by itself. What the rollout in flight needs is counted,
# and told of in `units.met` events; the unnamed are counted always, and told of by nobody.
UNIT_EVENTS = f"{PREFIX}unit_events_total"
UNIT_TIMES = (1, 4, 16)
EVENT_SERVED, EVENT_UNNAMED, EVENT_ERRORS = "served", "unnamed", "errors"
EVENT_REFUSALS, EVENT_INVALID = "refusals", "invalid_output"
# Whose answer was judged, and whose was judged to be bad.
EVENT_JUDGED, EVENT_THUMBS_DOWN = "judged", "thumbs_down"
EVENT_LATENCY, EVENT_FIRST_TOKEN, EVENT_INTER_TOKEN = "latency", "time_to_first_token", "inter_token"

# Guardrails' metrics that are durations, with what their SLO may be, and all that units are counted by.
SLO_BOUNDS = {
    EVENT_LATENCY: DURATION_BOUNDS, EVENT_FIRST_TOKEN: FIRST_TOKEN_BOUNDS, EVENT_INTER_TOKEN: INTER_TOKEN_BOUNDS,
}
COUNTED_BY_UNIT = (EVENT_ERRORS, EVENT_REFUSALS, EVENT_INVALID, EVENT_THUMBS_DOWN, *SLO_BOUNDS)

# Guardrails' metrics by which the two answers to a copied request are compared, and what comes of it. Units whose
# answers differed are told of with the version whose answer was the bad one.
PAIRED = (EVENT_ERRORS, EVENT_REFUSALS, EVENT_INVALID)
PairResult = Literal["alike", "copy_worse", "primary_worse"]
PAIR_RESULTS: tuple[PairResult, ...] = get_args(PairResult)


def pair_event(metric: str) -> str:
    """The event of a unit for which only one of two answers was bad by a guardrail's metric."""
    return f"pair_{metric}"

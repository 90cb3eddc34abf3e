"""What is asked of Prometheus for each guardrail, A/B test and objective. Pure."""

from dataclasses import dataclass
from typing import Literal

from services.rollout.guardrails import COPIES, COUNTERS, HISTOGRAMS, Cells, expressions, judges_copies
from shared.pipeline import Counted
from shared.promql import fill, selectors


@dataclass(frozen=True)
class Query:
    """One question to Prometheus.

    Attributes:
        selector: PromQL, a vector selector.
        version: whose samples these are; empty where their label `model_version` says it.
        part: what they count as; empty where another label says it.
        may_lack: kinds of `NoData` that are an answer, too: there are no such events.
    """

    selector: str
    version: str = ""
    part: Literal["", "bad", "total"] = ""
    may_lack: frozenset[str] = frozenset()


# What stable lacks when it has no traffic and no gateway knows it any more: then only the tolerable rate is tested.
_STABLE_MAY_LACK = frozenset({"empty", "stale"})


def queries_of(
    guardrail: Counted, route: str, stable: str, candidate: str, *, copies: bool = False, every_bucket: bool = False
) -> tuple[Query, ...]:
    """What to ask for all that it needs, of both versions.

    Args:
        copies: also for what the candidate's copies showed.
        every_bucket: of histograms; else only for those that are counted, a fifth of them.
    """
    asked = _queries(guardrail, route, stable, candidate, every_bucket)
    if not copies or not judges_copies(guardrail):
        return asked
    source = COPIES[guardrail.metric]
    selector = _buckets(source, guardrail, route, every_bucket) if isinstance(source, str) else _selector(source, route)
    return (*asked, Query(selector, candidate))


def _queries(guardrail: Counted, route: str, stable: str, candidate: str, every_bucket: bool) -> tuple[Query, ...]:
    if expressions(guardrail):
        of_stable = _promql(guardrail, route, stable, _STABLE_MAY_LACK)
        return (*_promql(guardrail, route, candidate, frozenset()), *of_stable)
    if guardrail.metric in HISTOGRAMS:
        return (Query(_buckets(HISTOGRAMS[guardrail.metric], guardrail, route, every_bucket)),)
    return (Query(_selector(COUNTERS[guardrail.metric], route)),)


def _selector(cells: Cells, route: str) -> str:
    return f'{cells.name}{{route="{route}",{cells.label}=~"{"|".join((*cells.good, *cells.bad))}"}}'


def _buckets(histogram: str, guardrail: Counted, route: str, every_bucket: bool) -> str:
    if every_bucket:
        return f'{histogram}_bucket{{route="{route}"}}'
    # A whole number of seconds is written with a decimal point by some, and without by others.
    slo = f"{guardrail.slo_seconds:g}".replace(".", "[.]")
    return f'{histogram}_bucket{{route="{route}",le=~"{slo}([.]0)?|[+]Inf"}}'


def _promql(guardrail: Counted, route: str, version: str, may_lack: frozenset[str]) -> tuple[Query, ...]:
    """Of one version. Total first: where it is missing, nothing else is asked."""
    bad, total = expressions(guardrail) or ("", "")
    no_bad_yet = frozenset({"empty"} if guardrail.missing_bad_is_zero else ())
    totals = [Query(fill(selector, route=route, version=version), version, "total", may_lack)
              for selector in selectors(total)]
    bads = [Query(fill(selector, route=route, version=version), version, "bad", may_lack | no_bad_yet)
            for selector in selectors(bad)]
    return (*totals, *bads)

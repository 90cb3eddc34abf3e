"""Rollout: the candidate beside stable and control, the evidence, and what the controller decided."""

from docs.dashboards.kit import (
    HALF,
    ORANGE,
    ROUTE,
    THIRD,
    VERSION,
    Line,
    Page,
    Panel,
    Query,
    Section,
    events,
    gauges,
    graph,
    number,
    rows,
    states,
)

OF_ROUTE = 'route=~"$route"'
ARM = 'route=~"$route", model_version=~"$version"'
# One role for each version that is on its route now: gateways that are a moment behind must not make it two.
_WEIGHT = f"max by (route, model_version, role) (tuneloop_gateway_route_weight{{{ARM}}})"
ROLE = f"topk by (route, model_version) (1, {_WEIGHT}) >= bool 0"
LEGEND = "{{route}} {{role}} {{model_version}}"


def _by_arm(series: str, matchers: str = "", le: str = "") -> str:
    """Rate per second of a counter, by arm."""
    chosen = f"{ARM}, {matchers}" if matchers else ARM
    rate = f"sum by (route, model_version{le}) (rate({series}{{{chosen}}}[$__rate_interval]))"
    return f"sum by (route, role, model_version{le}) ({rate} * on (route, model_version) group_left (role) ({ROLE}))"


def _share(series: str, bad: str, of: str = "") -> str:
    return f"{_by_arm(series, bad)} / {_by_arm(series, of)}"


def _latency(title: str, description: str, histogram: str) -> Panel:
    buckets = _by_arm(f"{histogram}_bucket", le=", le")
    quantiles = [Query(f"histogram_quantile({q}, {buckets})", f"{LEGEND} p{round(q * 100)}") for q in (0.5, 0.95)]
    return graph(title, description, *quantiles, unit="s", width=THIRD)


NOW = (
    states("Phase",
           "Of the route's newest rollout. Paused ones wait for a person: `tuneloop rollouts get ID` says for what.",
           Query(f"max by (route, phase) (tuneloop_rollout_phase{{{OF_ROUTE}}} == 1)", "{{route}} {{phase}}")),
    rows("Last decisions",
         "When the controller last did this, and by which rule. `tuneloop rollouts report ID` has the numbers of each.",
         Query(f"max by (route, action, rule) (tuneloop_rollout_decided_timestamp_seconds{{{OF_ROUTE}}}) * 1000",
               "when"),
         unit="dateTimeFromNow"),
    graph("Weights",
          "Share of the requests that each version gets, as gateways have it in effect; and what the controller wants "
          "for the candidate. They differ while gateways learn.",
          Query(f"max by (route, role, model_version) (tuneloop_gateway_route_weight{{{ARM}}}) / 10000", LEGEND),
          Query(f"max by (route) (tuneloop_rollout_weight{{{OF_ROUTE}}}) / 10000",
                "{{route}} wanted for the candidate"),
          unit="percentunit"),
    graph("Users",
          "Distinct users (or sessions) that the gateway with the most of them has served with each version since the "
          "route's salt last changed. `tuneloop rollouts get ID` has those of all gateways together.",
          Query(f"max by (route, model_version) (tuneloop_gateway_units_seen{{{ARM}}})",
                "{{route}} {{model_version}}")),
)


def _evidence(kind: str) -> str:
    return f'max by (route, guardrail) (tuneloop_rollout_e_value{{{OF_ROUTE}, kind="{kind}"}})'


def _threshold(kind: str, by: str = "route") -> str:
    return f'max by ({by}) (tuneloop_rollout_threshold{{{OF_ROUTE}, kind="{kind}"}})'


EVIDENCE = (
    graph("Evidence for harm",
          "One e-value for each guardrail. At the threshold the candidate is rolled back, at once. It may be looked "
          "at at any "
          "time: chance alone reaches it at most as often as the policy's alpha says.",
          Query(_evidence("harm"), "{{route}} {{guardrail}}"), Query(_threshold("harm"), "{{route}} rolls back at",
                                                                     limit=True),
          log=True),
    graph("Evidence for safety", "A step is done when all guardrails are at their threshold.",
          Query(_evidence("safe"), "{{route}} {{guardrail}}"), Query(_threshold("safe"), "{{route}} safe at",
                                                                     limit=True),
          log=True),
    gauges("How near to a rollback",
           "Evidence for harm as a share of its threshold, on its logarithm: 1 is a rollback.",
           Query(f"clamp_min(ln({_evidence('harm')}) / ln({_threshold('harm', 'route, guardrail')}), 0)",
                 "{{route}} {{guardrail}}"),
           lines=[Line(0.5, ORANGE), Line(1)], most=1),
    graph("A/B test: how much better the candidate is",
          "Confidence sequence of the objective's difference. Only where the policy has an `abTest`.",
          Query(f"max by (route, bound) (tuneloop_rollout_ab_effect{{{OF_ROUTE}}})", "{{route}} {{bound}}"),
          floor=None),
    graph("Users that gateways tell of",
          "Per second. Rollouts are judged with these, each counted once. Untold ones are lost for all versions alike.",
          Query("sum by (instance) (rate(tuneloop_gateway_units_told_total[$__rate_interval]))", "{{instance}} told"),
          Query("sum by (instance) (rate(tuneloop_gateway_units_untold_total[$__rate_interval]))",
                "{{instance}} untold"), unit="cps"),
)

ARMS = (
    graph("Requests",
          "Requests per second by arm. Control is stable's version at the candidate's own weight, where the policy "
          "wants one.",
          Query(_by_arm("tuneloop_gateway_requests_total"), LEGEND), unit="reqps", width=THIRD),
    graph("Errors", "Share of requests that failed through no fault of the client.",
          Query(_share("tuneloop_gateway_requests_total", 'outcome="error"', 'outcome=~"ok|error"'), LEGEND),
          unit="percentunit", width=THIRD),
    graph("Bad feedback", "Share of judged answers that were judged bad, as `POST /v1/feedback` has it.",
          Query(_share("tuneloop_gateway_feedback_total", 'verdict="bad"'), LEGEND), unit="percentunit", width=THIRD),
    _latency("Time to first token", "From the whole request to the first output of a stream: median, and 95 of 100.",
             "tuneloop_gateway_time_to_first_token_seconds"),
    _latency("Inter-token time", "Between two outputs of a stream: median, and 95 of 100.",
             "tuneloop_gateway_inter_token_seconds"),
    _latency("End-to-end latency", "From the whole request to the last byte of a good answer: median, and 95 of 100.",
             "tuneloop_gateway_request_duration_seconds"),
    graph("Refusals", "Share of whole answers that begin as refusals do.",
          Query(_share("tuneloop_gateway_answers_total", 'kind="refused"'), LEGEND), unit="percentunit", width=THIRD),
    graph("Invalid structured output",
          "Share of answers to requests with a `response_format` that are not what was asked for.",
          Query(_share("tuneloop_gateway_structured_answers_total", 'result="invalid"', 'result=~"valid|invalid"'),
                LEGEND),
          unit="percentunit", width=THIRD),
    graph("Copies", "Copies of requests per second that a shadow got, by outcome. Only in steps with `shadow`.",
          Query(f"sum by (route, model_version, outcome) "
                f"(rate(tuneloop_gateway_shadow_total{{{ARM}}}[$__rate_interval]))",
                "{{route}} {{model_version}} {{outcome}}"), unit="reqps", width=THIRD),
    graph("Answers that differ",
          "Copied requests per second of which only one of the two answers was bad: the copy's, or the client's "
          "(primary). A candidate that is no worse has as many of either.",
          Query(f"sum by (route, model_version, metric, result) "
                f'(rate(tuneloop_gateway_shadow_pairs_total{{{ARM},result!="alike"}}[$__rate_interval]))',
                "{{route}} {{model_version}} {{metric}} {{result}}"), unit="reqps", width=THIRD),
)

AFTERWARDS = (
    graph("Decisions", "Stored decisions by action and rule. A hold is stored when there was something new to hold on.",
          Query(f"sum by (route, action, rule) "
                f"(increase(tuneloop_rollout_decisions_total{{{OF_ROUTE}}}[$__rate_interval]))",
                "{{route}} {{action}} by {{rule}}"), bars=True, width=HALF),
    number("Rollouts that ended", "Promoted, rolled back, superseded by a newer version.",
           Query(f"round(sum by (outcome) (increase(tuneloop_rollout_duration_seconds_count{{{OF_ROUTE}}}[$__range])))",
                 "{{outcome}}")),
    number("Until weight 0",
           "How long it took gateways to take a candidate's weight away, at worst of 95 in 100: since the scrape that "
           "proved harm, "
           "and since the decision. Of all routes.",
           Query("histogram_quantile(0.95, sum by (since, le) "
                 "(increase(tuneloop_rollout_withdrawal_seconds_bucket[$__range])))",
                 "since {{since}}"), unit="s", lines=[Line(15, ORANGE), Line(60)]),
)

PAGE = Page(
    "rollout", "tuneloop / Rollout",
    "The candidate beside stable and control: weights, errors, latency, evidence, decisions.",
    "rollout.md", [ROUTE, VERSION],
    [
        Section("Where it stands", NOW), Section("Evidence", EVIDENCE), Section("Arms", ARMS),
        Section("Afterwards", AFTERWARDS),
    ],
    [events(
        "Decisions",
        f'max by (route, action, rule) '
        f'(tuneloop_rollout_decided_timestamp_seconds{{{OF_ROUTE}, action!~"hold|refuse"}}) * 1000',
        "{{route}}: {{action}} by {{rule}}", "purple",
    )],
)

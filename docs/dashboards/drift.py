"""Drift: whether live traffic still looks like what a model version was made for."""

from docs.dashboards.kit import ORANGE, ROUTE, THIRD, VERSION, Line, Page, Query, Section, gauges, graph, number

SERIES = 'route=~"$route", model_version=~"$version"'
OF_ROUTE = 'route=~"$route"'
FEATURE = "{{model_version}} {{feature}}"


def _feature(name: str) -> str:
    return f"max by (route, model_version, feature) (tuneloop_drift_{name}{{{SERIES}}})"


ALARM = (
    gauges("How near to an alarm",
           "The detector's evidence as a share of what raises an alarm, on its logarithm: 1 is an alarm.",
           Query(f"clamp_min(ln({_feature('evidence')}) / ln({_feature('evidence_threshold')}), 0)", FEATURE),
           lines=[Line(0.5, ORANGE), Line(1)], most=1),
    graph("Evidence",
          "The e-detector's value by feature, and what raises an alarm. It rises while windows differ from the "
          "reference and falls afterwards.",
          Query(_feature("evidence"), FEATURE),
          Query(f"max by (route, model_version) (tuneloop_drift_evidence_threshold{{{SERIES}}})",
                "{{model_version}} alarm at", limit=True),
          log=True),
    number("Alarms",
           "In the range that is shown, by the feature with the most evidence. `tuneloop drift alarms ROUTE` has "
           "examples.",
           Query(f"round(sum by (route) (increase(tuneloop_drift_alarms_total{{{OF_ROUTE}}}[$__range])))", "{{route}}"),
           lines=[Line(1, ORANGE)], width=THIRD),
    number("Windows", "Full windows that were compared in the range that is shown. Without any, nothing can be found.",
           Query(f"round(sum by (route) (increase(tuneloop_drift_windows_total{{{OF_ROUTE}}}[$__range])))",
                 "{{route}}"),
           width=THIRD),
    gauges("Alarms by feature", "Which feature raised them. `words` and `ngrams` alone are often a client's template.",
           Query(f"round(sum by (feature) (increase(tuneloop_drift_alarms_total{{{OF_ROUTE}}}[$__range])))",
                 "{{feature}}"),
           width=THIRD),
)

WINDOW = (
    graph("Last window: how different",
          "PSI (MMD for embeddings) as a share of what 99 of 100 windows without drift stay below: a single one above "
          "1 is "
          "nothing yet, many are.", Query(f"{_feature('statistic')} / {_feature('threshold')}", FEATURE),
          lines=[Line(1, ORANGE)]),
    graph("Last window: p-value", "May be looked at again and again; small ones feed the evidence.",
          Query(_feature("p_value"), FEATURE), log=True),
    graph("Last window: statistic", "PSI, or MMD for embeddings, as it is.", Query(_feature("statistic"), FEATURE)),
)

SAMPLES = (
    graph("Samples",
          "Samples per second by what became of them: counted, duplicate, or why they could not be compared.",
          Query(f"sum by (route, outcome) (rate(tuneloop_drift_samples_total{{{OF_ROUTE}}}[$__rate_interval]))",
                "{{route}} {{outcome}}")),
    graph("Captured",
          "Samples per second that gateways wrote to Kafka, and those that they lost, by reason; of all routes.",
          Query("sum(rate(tuneloop_gateway_capture_sent_total[$__rate_interval]))", "sent"),
          Query("sum by (reason) (rate(tuneloop_gateway_capture_dropped_total[$__rate_interval]))",
                "lost: {{reason}}")),
)

PAGE = Page(
    "drift", "tuneloop / Drift", "Whether live traffic still looks like what a model version was made for.", "drift.md",
    [ROUTE, VERSION],
    [Section("How near to an alarm it is", ALARM), Section("Last windows", WINDOW), Section("What is compared",
                                                                                            SAMPLES)],
)

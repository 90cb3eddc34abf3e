"""Loop: from datasets to production. What came of them, how long each step takes, what waits, what fails."""

from docs.dashboards.kit import FULL, HALF, ORANGE, PIPELINE, THIRD, Line, Page, Query, Section, gauges, graph, number

ONES = 'pipeline=~"$pipeline"'


def _count(series: str, **labels: str) -> str:
    """How often it happened in the range that is shown."""
    matchers = ", ".join([ONES, *(f'{name}="{value}"' for name, value in labels.items())])
    return f"round(sum(increase({series}{{{matchers}}}[$__range])))"


def _rate(series: str, by: str, matchers: str = ONES) -> str:
    return f"sum by (pipeline, {by}) (increase({series}{{{matchers}}}[$__rate_interval]))"


def _quantile(q: float, histogram: str, matchers: str = ONES) -> str:
    return f"histogram_quantile({q}, sum by (le) (increase({histogram}_bucket{{{matchers}}}[$__range])))"


ENDS = (
    number("Datasets prepared", "Published datasets that passed validation and cleaning.",
           Query(_count("tuneloop_data_ingest_datasets_total", state="prepared"), "prepared"), width=4),
    number("Datasets rejected", "Refused with reasons: `tuneloop datasets get ID` shows them.",
           Query(_count("tuneloop_data_ingest_datasets_total", state="rejected"), "rejected"), lines=[Line(1, ORANGE)],
           width=4),
    number("Runs failed", "Training runs that ended without an adapter: `tuneloop runs get ID` says why.",
           Query(_count("tuneloop_trainer_runs_total", outcome="failed"), "failed"), lines=[Line(1)], width=4),
    number("Refused by a gate", "Adapters that were measured and did not pass. The gates did their work.",
           Query(_count("tuneloop_evaluator_evaluations_total", outcome="refused"), "refused"), width=4),
    number("Promoted", "Model versions that came into production.",
           Query(_count("tuneloop_registry_stage_changes_total", stage="production"), "promoted"), width=4),
    number("Rolled back", "Model versions that rollouts took back: the Rollout dashboard has the evidence.",
           Query(_count("tuneloop_registry_stage_changes_total", stage="rolled_back"), "rolled back"),
           lines=[Line(1, ORANGE)], width=4),
)

STEPS = (
    graph("Datasets", "Datasets that ended, by how.",
          Query(_rate("tuneloop_data_ingest_datasets_total", "state"), "{{pipeline}} {{state}}"), bars=True,
          width=THIRD),
    graph("Training runs and evaluations", "Runs and evaluations that ended, by how.",
          Query(_rate("tuneloop_trainer_runs_total", "outcome"), "{{pipeline}} run {{outcome}}"),
          Query(_rate("tuneloop_evaluator_evaluations_total", "outcome"), "{{pipeline}} evaluation {{outcome}}"),
          bars=True, width=THIRD),
    graph("Stages", "Model versions that entered a stage: candidate, production, archived, rolled back.",
          Query(_rate("tuneloop_registry_stage_changes_total", "stage"), "{{pipeline}} {{stage}}"), bars=True,
          width=THIRD),
)

_STEPS = (
    ("prepare a dataset", "tuneloop_data_ingest_prepare_seconds", ONES),
    ("wait for a trainer", "tuneloop_trainer_queue_seconds", ONES),
    ("train", "tuneloop_trainer_run_seconds", ONES),
    ("evaluate", "tuneloop_evaluator_job_seconds", ONES),
    # A rollout knows its route; a pipeline's route is its name unless its spec says otherwise.
    ("roll out", "tuneloop_rollout_duration_seconds", 'outcome="promoted"'),
)
DURATIONS = (
    number("Dataset to production, median", "From a dataset's publication to the promotion of what was trained on it.",
           Query(_quantile(0.5, "tuneloop_registry_dataset_to_production_seconds"), "median"), unit="s"),
    number("Dataset to production, 95 of 100", "As slow as this or faster, for 95 of 100.",
           Query(_quantile(0.95, "tuneloop_registry_dataset_to_production_seconds"), "p95"), unit="s"),
    gauges("Where the time goes, median", "Of what ended in the range that is shown; rollouts are those of all routes.",
           *(Query(_quantile(0.5, histogram, matchers), step) for step, histogram, matchers in _STEPS), unit="s"),
    gauges("Where the time goes, 95 of 100", "As slow as this or faster, for 95 of 100.",
           *(Query(_quantile(0.95, histogram, matchers), step) for step, histogram, matchers in _STEPS), unit="s",
           width=FULL),
)

QUEUES = (
    graph("Waiting and at work",
          "Datasets, runs, evaluations and rollouts that have not ended, of all pipelines. Runs that stay pending "
          "wait for "
          "`TUNELOOP_MAX_CONCURRENT_RUNS`, or their job for a node.",
          Query("max by (loop, state) (tuneloop_reconcile_rows)", "{{loop}} {{state}}"), stacked=True),
    graph("Lost attempts",
          "Jobs that ended without a result and are tried again: out of memory, a node that went, a bug. "
          "Many of them are money that is burnt.",
          Query(f"sum by (pipeline) (increase(tuneloop_trainer_lost_attempts_total{{{ONES}}}[$__rate_interval]))",
                "{{pipeline}} training"),
          Query(f"sum by (pipeline) (increase(tuneloop_evaluator_lost_attempts_total{{{ONES}}}[$__rate_interval]))",
                "{{pipeline}} evaluation"), bars=True),
    graph("Rows", "Rows of prepared datasets by what became of them: kept, or why they were dropped.",
          Query(_rate("tuneloop_data_ingest_rows_total", "outcome"), "{{pipeline}} {{outcome}}"), bars=True,
          width=HALF),
    graph("Uploads", "Bytes of accepted uploads per second, of all pipelines.",
          Query("sum(rate(tuneloop_data_ingest_uploaded_bytes_total[$__rate_interval]))", "uploads"), unit="Bps"),
)

PAGE = Page(
    "loop", "tuneloop / Loop",
    "From datasets to production: what came of them, how long it took, what waits and fails.",
    "loop.md", [PIPELINE],
    [
        Section("What came of datasets", ENDS), Section("When", STEPS), Section("How long it takes", DURATIONS),
        Section("Queues and failures", QUEUES),
    ],
)

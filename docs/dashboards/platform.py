"""Platform: whether events flow and services work, whatever they are about."""

from docs.dashboards.kit import ORANGE, THIRD, Line, Page, Query, Section, graph, number

# Of tuneloop's own processes; Prometheus itself, brokers and the rest have dashboards of their own.
_OURS = 'job=~"registry|data_ingest|trainer|evaluator|rollout|drift|gateway|engine|serving"'

FLOW = (
    number("Services that answer", "Scrapes that succeed, of all.", Query(f"sum(up{{{_OURS}}})", "up"),
           Query(f"count(up{{{_OURS}}})", "all")),
    number("Dead events",
           "Events that were given up and wait for a person: `tuneloop inbox list --status dead`, then `requeue`.",
           Query("sum(max by (job) (tuneloop_inbox_dead))", "dead"), lines=[Line(1)]),
    number("Oldest dead event", "How long the oldest one has waited.",
           Query("max(tuneloop_inbox_dead_age_seconds)", "age"), unit="s", lines=[Line(3600, ORANGE), Line(86_400)]),
    number("To dead-letter topics",
           "Records in the range that is shown: unparseable ones, and events that were given up.",
           Query('round(sum(increase(tuneloop_events_published_total{topic=~".+[.]dlq"}[$__range])))', "records"),
           lines=[Line(1)]),
    graph("Consumer lag", "Records that a service's replicas have not read yet, as they know it themselves.",
          Query("sum by (job, topic) (tuneloop_consumer_lag_records)", "{{job}} {{topic}}"), lines=[Line(1000,
                                                                                                         ORANGE)]),
    graph("Consumer lag, as brokers see it",
          "Also of services that are down. From Strimzi's Kafka exporter; empty without it.",
          Query("sum by (consumergroup, topic) (kafka_consumergroup_lag)", "{{consumergroup}} {{topic}}"),
          lines=[Line(1000, ORANGE)]),
    graph("Inbox: oldest event that waits",
          "Age of what is received and not handled. It rises while a handler fails and is tried again.",
          Query("max by (job) (tuneloop_inbox_pending_age_seconds)", "{{job}}"), unit="s", lines=[Line(60, ORANGE),
                                                                                                  Line(600)]),
    graph("Outbox: oldest fact that waits",
          "Age of what is decided and not yet on Kafka. It rises while brokers are away.",
          Query("max by (job) (tuneloop_outbox_pending_age_seconds)", "{{job}}"), unit="s", lines=[Line(60, ORANGE),
                                                                                                   Line(600)]),
)

EVENTS = (
    graph("Handled", "Events per second whose effects are committed.",
          Query("sum by (job) (rate(tuneloop_events_handled_total[$__rate_interval]))", "{{job}}"), width=THIRD),
    graph("Failed attempts", "Attempts of handlers that failed, by type: tried again, or given up (dead).",
          Query("sum by (type, outcome) (increase(tuneloop_events_failed_total[$__rate_interval]))",
                "{{type}} {{outcome}}"),
          bars=True, width=THIRD),
    graph("Dead letters", "Records that were written to dead-letter topics, by the service that could not use them.",
          Query('sum by (job, topic) (increase(tuneloop_events_published_total{topic=~".+[.]dlq"}[$__rate_interval]))',
                "{{job}} {{topic}}"), bars=True, width=THIRD),
    graph("Consumed", "Records per second by what became of them. Duplicates are normal after a restart.",
          Query("sum by (outcome) (rate(tuneloop_events_consumed_total[$__rate_interval]))", "{{outcome}}"),
          width=THIRD),
    graph("Published", "Records per second that brokers acknowledged, by service.",
          Query("sum by (job) (rate(tuneloop_events_published_total[$__rate_interval]))", "{{job}}"), width=THIRD),
    graph("Not taken by brokers", "Records; they are tried again.",
          Query("sum by (job) (increase(tuneloop_events_publish_failed_total[$__rate_interval]))", "{{job}}"),
          bars=True,
          width=THIRD),
)

WORK = (
    graph("Time of a look",
          "How long reconcile loops take for one row: 95 of 100. It includes what a look waits for: S3, Prometheus, "
          "Kubernetes.",
          Query("histogram_quantile(0.95, sum by (job, loop, le) "
                "(rate(tuneloop_reconcile_seconds_bucket[$__rate_interval])))",
                "{{job}} {{loop}}"), unit="s", lines=[Line(10, ORANGE)], width=THIRD),
    graph("Failed looks", "Per second; the row is looked at again later. The service's log has the reason.",
          Query('sum by (job, loop) (rate(tuneloop_reconciled_total{outcome="failed"}[$__rate_interval]))',
                "{{job}} {{loop}}"),
          width=THIRD),
    graph("Rows that wait", "In states in which there is something to do.",
          Query("max by (job, loop, state) (tuneloop_reconcile_rows)", "{{job}} {{loop}} {{state}}"), stacked=True,
          width=THIRD),
)

PROCESSES = (
    graph("CPU", "Cores in use by process.",
          Query(f"rate(process_cpu_seconds_total{{{_OURS}}}[$__rate_interval])",
                "{{job}} {{instance}}"), width=THIRD),
    graph("Memory", "Resident memory by process.",
          Query(f"process_resident_memory_bytes{{{_OURS}}}",
                "{{job}} {{instance}}"), unit="bytes", width=THIRD),
    graph("CPU of a look at all rollouts",
          "What a controller must afford in each interval; looks at all rollouts in flight, summed.",
          Query("max by (instance) (tuneloop_rollout_tick_cpu_seconds)", "{{instance}}"), unit="s", lines=[Line(1,
                                                                                                                ORANGE)],
          width=THIRD),
)

PAGE = Page(
    "platform", "tuneloop / Platform",
    "Whether events flow and services work: lag, inbox and outbox, dead letters, looks.",
    "services.md", [],
    [
        Section("Flow", FLOW), Section("Events", EVENTS), Section("Reconcile loops", WORK), Section("Processes",
                                                                                                    PROCESSES),
    ],
)

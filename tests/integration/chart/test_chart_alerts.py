"""Each alert fires where it should and nowhere else, as Prometheus' own promtool reckons it."""

from pathlib import Path

import pytest

from tests.support.promtool import Case, alerts, promtool, rule_files, run_cases

JOBS = ("registry", "data_ingest", "trainer", "evaluator", "rollout", "drift", "gateway", "serving")
UP = {f'up{{job="{job}", instance="{job}:8080"}}': "1x600" for job in JOBS}
REQUESTS = 'tuneloop_gateway_requests_total{{route="r", model_version="r@1", outcome="{}"}}'
BUCKET = 'tuneloop_gateway_time_to_first_token_seconds_bucket{{route="r", model_version="r@1", le="{}"}}'
STREAMS = 'tuneloop_gateway_time_to_first_token_seconds_count{route="r", model_version="r@1"}'
REPLICAS = 'tuneloop_gateway_route_replicas{route="r", model_version="r@1", role="stable", instance="g"}'
CANDIDATE = 'tuneloop_gateway_route_weight{route="r", model_version="r@2", role="candidate", instance="g"}'
IN_CONTROL = '{route="r", instance="c"}'
DECIDED = 'tuneloop_rollout_decided_timestamp_seconds{{route="r", instance="c", action="{}", rule="{}"}}'
PHASE = 'tuneloop_rollout_phase{{route="r", instance="c", phase="{}"}}'
WITHDRAWN = 'tuneloop_rollout_withdrawal_seconds_bucket{{since="decision", le="{}"}}'
CALLS = 'tuneloop_rollout_webhook_calls_total{{webhook="ops", type="notification", outcome="{}"}}'
SAMPLES = 'tuneloop_drift_samples_total{{route="r", outcome="{}"}}'
EVALUATIONS = 'tuneloop_evaluator_evaluations_total{{pipeline="p", outcome="{}"}}'
AGENT = '{instance="a:8080"}'
LOADS = 'tuneloop_serving_loads_total{instance="a:8080", outcome="loaded"}'
LISTED = 'tuneloop_serving_adapter_slots{instance="a:8080", kind="listed"}'
SLOTS = 'tuneloop_serving_adapter_slots{instance="a:8080", kind="hot"}'

CASES = [
    Case("all is well", {
        REQUESTS.format("ok"): "0+600x600", REQUESTS.format("error"): "0+1x600",
        REQUESTS.format("rejected"): "0+99x600", PHASE.format("progressing"): "1x600",
        BUCKET.format("1"): "0+590x600", BUCKET.format("5"): "0+599x600", BUCKET.format("+Inf"): "0+600x600",
        STREAMS: "0+600x600", REPLICAS: "2x600", 'tuneloop_gateway_replica_ejections_total{replica="a"}': "3x600",
        f"tuneloop_rollout_weight{IN_CONTROL}": "1000x600", CANDIDATE: "1000x600", LOADS: "2x600", LISTED: "8x600",
        # A controller that saw the route long ago, and shows what it saw then.
        'tuneloop_rollout_decided_timestamp_seconds{route="r", instance="old", action="hold"}': "60x600",
        'tuneloop_rollout_phase{route="r", instance="old", phase="paused"}': "1x600",
        'tuneloop_rollout_weight{route="r", instance="old"}': "5000x600",
        DECIDED.format("hold", "evidence"): "0+60x600", 'tuneloop_inbox_dead{job="trainer"}': "0x600",
        'tuneloop_gateway_route_revision{route="r", instance="a"}': "4x600",
        'tuneloop_gateway_route_revision{route="r", instance="b"}': "4x600",
        'tuneloop_drift_alarms_total{route="r", feature="length"}': "1x600", SAMPLES.format("counted"): "0+9x600",
        f"tuneloop_serving_engine_up{AGENT}": "1x600", f"tuneloop_serving_hot_adapters{AGENT}": "2x600", SLOTS: "2x600",
        "tuneloop_gateway_api_keys_file_ok": "1x600",
    }, "150m"),
    Case("one service does not answer", {'up{job="drift", instance="drift:8080"}': "1x5 0x20"}, "20m", [
        ("TuneloopServiceDown", {"job": "drift", "instance": "drift:8080"}),
    ]),
    Case("one service is not there", {'up{job="trainer", instance="trainer:8080"}': "_x60"}, "20m", [
        ("TuneloopServiceAbsent", {"job": "trainer"}),
    ]),
    Case("nobody reads", {'tuneloop_consumer_lag_records{job="drift", topic="t", instance="a"}': "0+200x60"}, "25m", [
        ("TuneloopConsumerLag", {"job": "drift", "topic": "t"}),
    ]),
    Case("an event waits", {'tuneloop_inbox_pending_age_seconds{job="trainer"}': "0+60x60"}, "15m", [
        ("TuneloopInboxStuck", {"job": "trainer"}),
    ]),
    Case("a fact waits", {'tuneloop_outbox_pending_age_seconds{job="trainer"}': "0+60x60"}, "10m", [
        ("TuneloopOutboxStuck", {"job": "trainer"}),
    ]),
    Case("an event was given up", {'tuneloop_inbox_dead{job="trainer"}': "0x5 1x60"}, "10m", [
        ("TuneloopDeadEvents", {"job": "trainer"}),
    ]),
    Case("no event", {
        'tuneloop_events_consumed_total{job="drift", topic="t", outcome="unparseable"}': "0x5 1x60",
    }, "10m", [("TuneloopUnparseableRecords", {"job": "drift", "topic": "t"})]),
    Case("looks fail", {
        'tuneloop_reconciled_total{job="trainer", loop="runs", outcome="failed"}': "0+6x60",
        'tuneloop_reconciled_total{job="trainer", loop="runs", outcome="ok"}': "0+1x60",
    }, "25m", [("TuneloopReconcileFailing", {"job": "trainer", "loop": "runs"})]),
    Case("a dataset is rejected", {
        'tuneloop_data_ingest_datasets_total{pipeline="p", state="rejected"}': "0x5 1x60",
    }, "10m", [("TuneloopDatasetRejected", {"pipeline": "p"})]),
    Case("training fails", {'tuneloop_trainer_runs_total{pipeline="p", outcome="failed"}': "0x5 1x60"}, "10m", [
        ("TuneloopTrainingFailed", {"pipeline": "p"}),
    ]),
    Case("evaluation fails", {EVALUATIONS.format("failed"): "0x5 1x60"}, "10m", [
        ("TuneloopEvaluationFailed", {"pipeline": "p"}),
    ]),
    Case("attempts are lost", {'tuneloop_trainer_lost_attempts_total{pipeline="p"}': "0+1x60"}, "30m", [
        ("TuneloopAttemptsLost", {"pipeline": "p"}),
    ]),
    Case("a queue never empties", {
        'tuneloop_reconcile_rows{job="trainer", loop="runs", state="pending"}': "2x300",
        'tuneloop_reconcile_rows{job="evaluator", loop="evaluations", state="pending"}': "2x30 0 2x300",
    }, "145m", [("TuneloopJobsWaitLong", {"job": "trainer", "loop": "runs", "state": "pending"})]),
    Case("gates refuse all", {
        EVALUATIONS.format("refused"): "0x5 1x5 2x5 3x60", EVALUATIONS.format("passed"): "0x90",
    }, "60m", [("TuneloopNothingPassesTheGates", {"pipeline": "p"})]),
    Case("one passed the gates", {
        EVALUATIONS.format("refused"): "0x5 1x5 2x5 3x60", EVALUATIONS.format("passed"): "0x20 1x60",
    }, "60m"),
    # Time begins at 0 here, and a decision of the first half hour is recent until then.
    Case("rolled back", {DECIDED.format("rollback", "evidence"): "_x39 2400x60"}, "45m", [
        ("TuneloopRolledBack", {"route": "r", "rule": "evidence"}),
    ]),
    Case("a rollback is over", {DECIDED.format("rollback", "evidence"): "_x39 2400x90"}, "80m"),
    Case("paused", {PHASE.format("paused"): "0x5 1x90", DECIDED.format("hold", "paused"): "0+60x90"}, "70m", [
        ("TuneloopRolloutPaused", {"route": "r"}),
    ]),
    Case("undecided", {DECIDED.format("extend", "deadline"): "_x9 600x90"}, "30m", [
        ("TuneloopRolloutUndecided", {"route": "r"}),
    ]),
    Case("a gateway that has not heard", {
        f"tuneloop_rollout_weight{IN_CONTROL}": "1000x5 0x30", CANDIDATE: "1000x40",
        DECIDED.format("advance", "loaded"): "0+60x40",
    }, "20m", [("TuneloopWeightNotInEffect", {"route": "r"})]),
    Case("no data", {
        PHASE.format("progressing"): "1x90", DECIDED.format("hold", "no_data"): "0+60x90",
        DECIDED.format("advance", "loaded"): "30x90",
    }, "30m", [("TuneloopRolloutWithoutData", {"route": "r"})]),
    Case("not loaded", {PHASE.format("staging"): "0x5 1x90", DECIDED.format("hold", "loading"): "0+60x90"}, "40m", [
        ("TuneloopRolloutNotLoaded", {"route": "r"}),
    ]),
    Case("a slow withdrawal", {WITHDRAWN.format("30"): "0x60", WITHDRAWN.format("60"): "0x5 1x60",
                               WITHDRAWN.format("+Inf"): "0x5 1x60"}, "20m", [("TuneloopWithdrawalSlow", {})]),
    Case("a withdrawal that nobody confirms", {
        'tuneloop_rollout_withdrawals_total{state="unconfirmed"}': "0x5 1x60",
        'tuneloop_rollout_withdrawals_total{state="confirmed"}': "0+1x60",
    }, "20m", [("TuneloopWithdrawalUnconfirmed", {})]),
    Case("a webhook that is not reached", {
        CALLS.format("failed"): "_x5 1x60", CALLS.format("retried"): "0+1x90",
    }, "20m", [("TuneloopWebhookFails", {"webhook": "ops", "type": "notification"})]),
    Case("webhooks that say no", {CALLS.format("refused"): "0+1x90", CALLS.format("ok"): "0+1x90"}, "20m"),
    Case("every fifth request fails", {REQUESTS.format("ok"): "0+80x90", REQUESTS.format("error"): "0+20x90"}, "60m", [
        ("TuneloopErrorsFastBurn", {"route": "r"}), ("TuneloopErrorsSlowBurn", {"route": "r"}),
    ]),
    Case("every twelfth request fails", {REQUESTS.format("ok"): "0+92x90", REQUESTS.format("error"): "0+8x90"}, "60m", [
        ("TuneloopErrorsSlowBurn", {"route": "r"}),
    ]),
    Case("the failing is over", {
        REQUESTS.format("ok"): "0+80x30 2400+100x60", REQUESTS.format("error"): "0+20x30 600x60",
    }, "50m", [("TuneloopErrorsSlowBurn", {"route": "r"})]),
    Case("late first tokens", {BUCKET.format("5"): "0+1x60", BUCKET.format("10"): "0+60x60",
                               BUCKET.format("+Inf"): "0+60x60"}, "30m", [
        ("TuneloopSlowFirstToken", {"route": "r", "model_version": "r@1"}),
    ]),
    Case("every third stream begins late", {BUCKET.format("5"): "0+40x90", STREAMS: "0+60x90"}, "30m", [
        ("TuneloopLateFirstTokensFastBurn", {"route": "r"}), ("TuneloopLateFirstTokensSlowBurn", {"route": "r"}),
    ]),
    Case("every tenth stream begins late, as Prometheus 3 says it", {
        BUCKET.format("5.0"): "0+54x90", STREAMS: "0+60x90",
    }, "30m", [("TuneloopLateFirstTokensSlowBurn", {"route": "r"})]),
    Case("nobody serves", {REPLICAS: "1x5 0x30"}, "10m", [
        ("TuneloopNoReplica", {"route": "r", "model_version": "r@1"}),
    ]),
    Case("a model server that fails", {'tuneloop_gateway_replica_ejections_total{replica="a"}': "0x5 0+1x30"}, "20m", [
        ("TuneloopReplicaSkipped", {"replica": "a"}),
    ]),
    Case("too many requests", {'tuneloop_gateway_unrouted_total{code="overloaded"}': "0+60x30"}, "20m", [
        ("TuneloopGatewayRefuses", {"code": "overloaded"}),
    ]),
    Case("an old table", {
        'tuneloop_gateway_route_revision{route="r", instance="a"}': "1x5 2x30",
        'tuneloop_gateway_route_revision{route="r", instance="b"}': "1x60",
    }, "12m", [("TuneloopRouteTableStale", {"route": "r"})]),
    Case("lost samples", {'tuneloop_gateway_capture_dropped_total{reason="kafka"}': "0+3x60"}, "30m", [
        ("TuneloopCaptureDrops", {"reason": "kafka"}),
    ]),
    Case("users that nobody hears of", {
        'tuneloop_gateway_units_untold_total{instance="g"}': "0x10 40x60",
        'tuneloop_gateway_units_untold_total{instance="h"}': "7x70",
    }, "15m", [("TuneloopUnitsUntold", {"instance": "g"})]),
    Case("a broken key file", {'tuneloop_gateway_api_keys_file_ok{instance="g"}': "1x5 0x30"}, "15m", [
        ("TuneloopApiKeysFileBroken", {"instance": "g"}),
    ]),
    Case("no model server", {f"tuneloop_serving_engine_up{AGENT}": "1x5 0x30"}, "20m", [
        ("TuneloopModelServerDown", {"instance": "a:8080"}),
    ]),
    Case("a model server that dies", {f"tuneloop_serving_engine_starts_total{AGENT}": "1+1x30"}, "20m", [
        ("TuneloopModelServerRestarts", {"instance": "a:8080"}),
    ]),
    Case("a refused adapter", {'tuneloop_serving_loads_total{instance="a:8080", outcome="permanent"}': "0x5 1x30"},
         "10m", [("TuneloopAdapterRefused", {"instance": "a:8080", "outcome": "permanent"})]),
    Case("loads fail", {'tuneloop_serving_loads_total{instance="a:8080", outcome="temporary"}': "0+1x30"}, "20m", [
        ("TuneloopAdapterLoadsFail", {"instance": "a:8080", "outcome": "temporary"}),
    ]),
    Case("too few slots", {f"tuneloop_serving_hot_adapters{AGENT}": "3x30", SLOTS: "2x30"}, "20m", [
        ("TuneloopAdapterSlotsExceeded", {"instance": "a:8080"}),
    ]),
    Case("adapters come and go", {LOADS: "0+1x90", LISTED: "8x90"}, "60m", [
        ("TuneloopAdaptersThrash", {"instance": "a:8080", "outcome": "loaded"}),
    ]),
    Case("a first alarm", {'tuneloop_drift_alarms_total{route="r", feature="length"}': "_x90 1x60"}, "100m", [
        ("TuneloopDrift", {"route": "r", "feature": "length"}),
    ]),
    Case("samples that do not count", {SAMPLES.format("counted"): "0+1x180", SAMPLES.format("unreadable"): "0+20x180"},
         "130m", [("TuneloopDriftBlind", {"route": "r"})]),
]


def test_prometheus_takes_the_rules() -> None:
    assert promtool("check", "rules", *map(str, rule_files())).count("SUCCESS") == len(rule_files())


def test_alerts_fire_where_they_should_and_nowhere_else(tmp_path: Path) -> None:
    complete = [Case(case.name, {**UP, **case.series}, case.at, case.fires) for case in CASES]
    run_cases(complete, tmp_path)


def test_a_wrong_expectation_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="TuneloopDeadEvents"):
        run_cases([Case("nothing", UP, "10m", [("TuneloopDeadEvents", {"job": "trainer"})])], tmp_path)


def test_every_alert_has_a_case() -> None:
    assert {alert for case in CASES for alert, _ in case.fires} == set(alerts())

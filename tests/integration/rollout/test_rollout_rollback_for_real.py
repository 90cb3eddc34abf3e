"""A rollback with real gateways, a real Prometheus, a real broker and the controller as a process, all told apart."""

import pytest

from benchmarks.rollout.withdrawal import measure

pytestmark = pytest.mark.integration


def test_harm_in_a_scrape_leads_to_weight_0_at_every_gateway_and_to_no_request_after_that() -> None:
    [ended] = measure(1.0, ["r00"], 1)
    assert ended.shown <= ended.sampled <= ended.decided <= ended.confirmed
    assert ended.asked <= ended.confirmed

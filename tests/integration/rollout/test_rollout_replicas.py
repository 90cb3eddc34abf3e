"""Model servers that are no more hold no rollout, and one that is cut off never counts as having the candidate."""

from datetime import timedelta

import pytest

from services.rollout.models import Replica
from services.rollout.replicas import Forgetter
from shared.db import reading
from tests.support.rollout_stand import Stand, adapter_loaded, model_registered, replica_alive, replica_ready

pytestmark = pytest.mark.integration


class House:
    """Two model servers, and the loop that forgets."""

    def __init__(self, controller: Stand) -> None:
        self.controller = controller
        self.forgetter = Forgetter(controller.engine, controller.clock, timedelta(minutes=30))

    def wait(self, minutes: int, *alive: str) -> None:
        """Time passes; some report every five minutes."""
        for _ in range(minutes // 5):
            self.controller.clock.advance(300)
            self.controller.hear(*map(replica_alive, alive))
            self.forgetter.step()
            self.controller.look()

    def forgotten(self) -> list[str]:
        return [data["replica"] for data in self.controller.told("replica.forgotten.v1")]


@pytest.fixture
def house(controller: Stand) -> House:
    controller.begin(loadDeadline="1d")
    house = House(controller)
    house.wait(5, "gpu-0", "gpu-1")
    return house


def test_a_server_that_was_removed_is_not_waited_for(house: House) -> None:
    controller = house.controller
    controller.hear(adapter_loaded("gpu-0"))
    house.wait(30, "gpu-0")
    assert (controller.phase(), house.forgotten()) == ("staging", [])
    house.wait(10, "gpu-0")
    assert house.forgotten() == ["gpu-1"]
    [told] = controller.told("replica.forgotten.v1")
    assert told["base_model"] == "tiny"
    controller.run(3)
    assert controller.phase() == "progressing"
    [advance] = [one for one in controller.decisions() if one.action == "advance"]
    assert advance.reason.startswith("loaded on all 1 replicas")


def test_one_that_is_cut_off_counts_as_having_nothing_whatever_it_said_before(house: House) -> None:
    controller = house.controller
    controller.hear(adapter_loaded("gpu-1"))
    house.wait(40, "gpu-0")
    controller.run(5)
    assert (controller.phase(), house.forgotten()) == ("staging", ["gpu-1"])
    controller.hear(adapter_loaded("gpu-0"))
    controller.run(3)
    assert controller.phase() == "progressing"


def test_one_that_reports_again_is_waited_for_again(house: House) -> None:
    controller = house.controller
    house.wait(40, "gpu-0")
    assert house.forgotten() == ["gpu-1"]
    controller.clock.advance(1)
    controller.hear(replica_alive("gpu-1"), adapter_loaded("gpu-0"))
    controller.run(5)
    assert controller.phase() == "staging"
    with reading(controller.engine) as session:
        row = session.get(Replica, "gpu-1")
        assert row is not None
        assert row.forgotten_at is None
    controller.hear(adapter_loaded("gpu-1"))
    controller.run(3)
    assert controller.phase() == "progressing"
    house.wait(40, "gpu-0")
    assert house.forgotten() == ["gpu-1", "gpu-1"]


def test_a_restart_brings_a_forgotten_server_back_too(house: House) -> None:
    controller = house.controller
    house.wait(40, "gpu-0")
    controller.clock.advance(1)
    controller.hear(replica_ready("gpu-1"), adapter_loaded("gpu-0"))
    controller.run(5)
    assert controller.phase() == "staging"


def test_while_no_report_arrives_at_all_nobody_is_forgotten(house: House) -> None:
    controller = house.controller
    house.wait(120)
    assert house.forgotten() == []
    controller.hear(model_registered(2))
    controller.run(5)
    assert controller.phase("intents-r2") == "staging"

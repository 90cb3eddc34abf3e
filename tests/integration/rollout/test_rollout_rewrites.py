"""llm-d splits the traffic: a route's InferenceModelRewrite through a rollout, faults, and other people's hands."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.rollout.models import Rewrite, Rollout, Route
from services.rollout.rewrites.api import RewriteApi
from services.rollout.rewrites.loop import RewriteLoop, Rewrites
from services.rollout.rewrites.manifest import REVISION, Pool, manifest
from services.rollout.routes import targets_of
from services.rollout.views import WithdrawalView, rollout_view
from services.rollout.withdrawals import Watcher
from shared.db import reading
from tests.support.rewrites import APPLY, RewriteCluster, start_rewrite_cluster
from tests.support.rollout_stand import Stand

pytestmark = pytest.mark.integration
NAME = "tuneloop-intents"
# One test with all statements is enough on both databases.
sqlite_only = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
POOLS = {"tiny": Pool("vllm-tiny", "inference.networking.k8s.io")}


@pytest.fixture
def cluster() -> Iterator[RewriteCluster]:
    with start_rewrite_cluster() as cluster:
        yield cluster


class Keeper:
    """The controller's loop for llm-d."""

    def __init__(self, controller: Stand, cluster: RewriteCluster, api: RewriteApi | None = None) -> None:
        self.controller, self.cluster = controller, cluster
        self.loop = RewriteLoop(
            controller.engine, api or cluster.rewrites(), POOLS, controller.clock, owner="old" if api else "one",
        )

    def look(self, seconds: float = 0.0) -> None:
        """Every look that is due after some time."""
        self.controller.clock.advance(seconds)
        for _ in range(20):
            if not self.loop.step():
                return
        raise AssertionError("an object is due again and again")

    def run(self, seconds: int) -> list[dict[str, int]]:
        """Let the whole controller work; each split that the cluster was told, once."""
        told: list[dict[str, int]] = []
        for _ in range(seconds):
            self.controller.run(1)
            self.look()
            if not told or told[-1] != self.split:
                told.append(self.split)
        return told

    @property
    def split(self) -> dict[str, int]:
        found = self.cluster.rewrite(NAME)
        assert found is not None
        [rule] = found["spec"]["rules"]
        return {one["modelRewrite"]: one["weight"] for one in rule["targets"]}

    @property
    def row(self) -> Rewrite:
        with reading(self.controller.engine) as session:
            row = session.get(Rewrite, "intents")
            assert row is not None
            return row


@pytest.fixture
def keeper(controller: Stand, cluster: RewriteCluster) -> Keeper:
    controller.begin()
    return Keeper(controller, cluster)


def repairs() -> float:
    return REGISTRY.get_sample_value("tuneloop_rollout_rewrite_repairs_total", {"route": "intents"}) or 0.0


def test_a_good_version_is_promoted_and_a_version_without_weight_is_never_a_target(keeper: Keeper) -> None:
    keeper.controller.load()
    assert keeper.run(60) == [
        {"tiny": 10_000}, {"tiny": 8_000, "intents@1": 2_000}, {"tiny": 5_000, "intents@1": 5_000},
        {"intents@1": 10_000},
    ]
    assert keeper.controller.phase() == "promoted"
    [created] = keeper.cluster.requests("POST")
    assert created.params["fieldManager"] == "tuneloop-rollout"
    for request in keeper.cluster.requests("PATCH"):
        assert request.headers["Content-Type"] == APPLY
        assert (request.params["fieldManager"], request.params["force"]) == ("tuneloop-rollout", "true")
        assert request.data["metadata"]["resourceVersion"]
    row, route = keeper.row, keeper.controller.row()
    assert (row.revision, row.problem) == (route.revision, "")
    found = keeper.cluster.rewrite(NAME)
    assert found is not None
    assert found["metadata"]["annotations"][REVISION] == str(route.revision)


@sqlite_only
def test_one_action_returns_all_traffic_and_is_confirmed_by_the_cluster(keeper: Keeper) -> None:
    controller = keeper.controller
    controller.load()
    controller.bad_share = 0.5
    assert keeper.run(40) == [{"tiny": 10_000}, {"tiny": 8_000, "intents@1": 2_000}, {"tiny": 10_000}]
    assert controller.phase() == "rolled_back"
    Watcher(controller.engine, Rewrites(controller.engine), controller.clock).loop(owner="one").step()
    told = withdrawal(controller)
    assert (told.state, told.confirmed_at) == ("confirmed", keeper.row.changed_at)
    assert told.seconds == 0.0, "in virtual time the cluster takes it at once"


@sqlite_only
def test_what_the_cluster_has_not_taken_is_not_confirmed(keeper: Keeper) -> None:
    controller = keeper.controller
    controller.load()
    keeper.run(8)
    controller.bad_share = 0.5
    keeper.cluster.fail_next(*[(500, "etcd is slow")] * 100)
    for _ in range(30):
        controller.run(1)
        keeper.look()
    assert controller.phase() == "rolled_back"
    watcher = Watcher(controller.engine, Rewrites(controller.engine), controller.clock).loop(owner="one")
    watcher.step()
    told = withdrawal(controller)
    assert told.state == "waiting"
    assert "etcd is slow" in told.waiting


def withdrawal(controller: Stand) -> WithdrawalView:
    with reading(controller.engine) as session:
        row = session.get(Rollout, "intents-r1")
        assert row is not None
        view = rollout_view(session, row, controller.clock.now()).withdrawal
    assert view is not None
    return view


@sqlite_only
@pytest.mark.parametrize("meddle", [
    lambda cluster: cluster.change(NAME, spec={"rules": [{"targets": [{"modelRewrite": "mine", "weight": 1}]}]}),
    lambda cluster: cluster.change(NAME, spec={"poolRef": {"name": "other"}}),
    lambda cluster: cluster.delete(NAME),
], ids=["other targets", "another pool", "deleted"])
def test_what_somebody_else_changes_is_repaired(keeper: Keeper, meddle: Callable[[RewriteCluster], None]) -> None:
    keeper.look()
    before, as_it_was = repairs(), keeper.cluster.rewrite(NAME)
    assert as_it_was is not None
    meddle(keeper.cluster)
    keeper.look(seconds=10)
    assert repairs() == before, "it is not looked at all the time"
    keeper.look(seconds=25)
    found = keeper.cluster.rewrite(NAME)
    assert found is not None
    assert found["spec"] == as_it_was["spec"]
    assert repairs() == before + 1
    keeper.look(seconds=35)
    assert repairs() == before + 1


FAULTS: list[tuple[tuple[int, str] | str, str]] = [
    ((403, "it is forbidden"), "Does the service account have the Role that docs/rollouts.md lists"),
    ((500, "etcd is slow"), "answered 500: etcd is slow"),
    ((409, "the object has been modified"), "the object has been modified"),
    ((422, "spec.rules is bad"), "Kubernetes does not accept it: spec.rules is bad"),
]


@sqlite_only
@pytest.mark.parametrize(("fault", "told"), FAULTS)
@pytest.mark.parametrize("step", ["read", "write"])
def test_a_fault_is_told_beside_the_route_and_passes(keeper: Keeper, fault: Any, told: str, step: str) -> None:
    keeper.cluster.fail_next(*([fault] if step == "read" else [None, fault]))
    keeper.look()
    assert told in keeper.row.problem
    assert keeper.cluster.rewrite(NAME) is None
    keeper.look(seconds=5)
    assert (keeper.row.problem, keeper.split) == ("", {"tiny": 10_000})


@sqlite_only
def test_a_cluster_without_llm_d_is_told_as_such(keeper: Keeper) -> None:
    keeper.cluster.define(defined=False)
    keeper.look()
    assert "knows no InferenceModelRewrite of llm-d.ai/v1alpha2. Install llm-d's" in keeper.row.problem
    keeper.cluster.define(defined=True)
    keeper.look(seconds=5)
    assert keeper.split == {"tiny": 10_000}


@sqlite_only
def test_a_base_model_without_a_pool_and_a_foreign_object_wait_for_a_person(keeper: Keeper) -> None:
    theirs = {**manifest("intents", 1, "tiny", targets_of(keeper.controller.row()), POOLS["tiny"])}
    theirs["metadata"] = {"name": NAME, "namespace": "jobs", "resourceVersion": "1", "labels": {}}
    keeper.cluster.put_rewrite(NAME, theirs)
    keeper.look()
    assert "was made by somebody else" in keeper.row.problem
    assert keeper.cluster.rewrite(NAME) == theirs
    lost = RewriteLoop(keeper.controller.engine, keeper.cluster.rewrites(), {}, keeper.controller.clock, owner="one")
    keeper.controller.clock.advance(60)
    lost.step()
    assert "name it in TUNELOOP_INFERENCE_POOLS" in keeper.row.problem


class Paused(RewriteApi):
    """A controller that something happens to between its reading and its writing."""

    meanwhile: Callable[[], None]

    def get(self, name: str) -> dict[str, Any] | None:
        found = super().get(name)
        self.meanwhile()
        return found


@pytest.mark.parametrize("made", [False, True], ids=["creates", "applies"])
def test_an_old_leader_that_wakes_up_overwrites_nothing(
    controller: Stand, cluster: RewriteCluster, keeper: Keeper, made: bool
) -> None:
    """It has read the route and the object; then another one takes over and moves the traffic; then it writes."""
    controller.load()
    if made:
        keeper.look()
        controller.run(1)  # the route is taken: something to apply
    paused = cluster.rewrites(Paused)
    old = Keeper(controller, cluster, paused)

    def take_over() -> None:
        controller.clock.advance(60)  # past the old leader's lease
        controller.run(8)
        keeper.look()

    paused.meanwhile = take_over
    assert old.loop.step()
    assert len(cluster.requests("PATCH")) == (2 if made else 0), "the new one's, and the refused one"
    assert keeper.split == {"tiny": 8_000, "intents@1": 2_000}
    with reading(controller.engine) as session:
        route = session.get(Route, "intents")
        assert route is not None
    assert (keeper.row.revision, keeper.row.problem) == (route.revision, "")

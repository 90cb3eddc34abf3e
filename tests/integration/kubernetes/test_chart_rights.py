"""The chart's Roles and those of the documentation are what services ask of Kubernetes, and nothing else.

Each request that a service makes in its life is taken as RBAC's authorizer sees it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.rollout.rewrites.loop import RewriteLoop
from services.rollout.rewrites.manifest import Pool
from shared.clock import VirtualClock
from shared.db import connect, migrate
from shared.launchers import JobSpec, LauncherSettings
from shared.launchers.kubernetes.launcher import KubernetesLauncher
from tests.support.chart import Right, documented_rights, role, variant
from tests.support.kubernetes_cluster import Cluster, start_cluster
from tests.support.rewrites import RewriteCluster, start_rewrite_cluster
from tests.support.rollout_stand import MIGRATIONS, stand

pytestmark = pytest.mark.integration
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
VERBS = {"POST": "create", "GET": "get", "PATCH": "patch", "DELETE": "delete"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with start_cluster() as cluster:
        yield cluster


def right(request: Any, method: str) -> Right:
    """API group, resource and verb of a request, as Kubernetes' authorizer takes them."""
    assert request.namespace, "a Role is for one namespace"
    resource = "/".join(filter(None, [request.resource.plural, request.subresource]))
    verb = "list" if method == "GET" and not request.name else VERBS[method]
    return request.resource.group, resource, verb


def live(cluster: Cluster) -> None:
    """All that can happen to jobs: started on two nodes, watched, read, cancelled; and one that never starts."""
    clock = VirtualClock(CREATED)
    settings = LauncherSettings(launcher="kubernetes", job_image="tuneloop/trainer:1")
    launcher = KubernetesLauncher(settings, cluster.api(), clock, {})
    for name in ("train-1", "train-2"):
        launcher.launch(JobSpec(name=name, module="services.trainer.job", nodes=2))
    cluster.add_pod("train-1", {"phase": "Running"}, log="step 1\n")
    assert launcher.observe("train-1").state == "running"
    assert launcher.logs("train-1") == "step 1\n"
    launcher.cancel("train-1")
    clock.advance(timedelta(days=1).total_seconds())
    assert launcher.observe("train-2").state == "failed"


@pytest.mark.parametrize("service", ["trainer", "evaluator"])
def test_the_role_has_what_a_job_s_life_takes_and_nothing_else(cluster: Cluster, service: str) -> None:
    live(cluster)
    used = {right(request, method) for method in VERBS for request in cluster.requests(method)}
    assert role(variant("defaults"), service) == used
    assert documented_rights("jobs.md") == used


def keep_a_route(cluster: RewriteCluster, engine: Engine) -> None:
    """All that can happen to a route's object: made, changed, and repaired."""
    with stand(engine) as controller:
        controller.begin()
        pools = {"tiny": Pool("vllm-tiny", "inference.networking.k8s.io")}
        loop = RewriteLoop(engine, cluster.rewrites(), pools, controller.clock, owner="one")
        assert loop.step()
        cluster.change("tuneloop-intents", spec={"rules": []})
        controller.clock.advance(60)
        assert loop.step()


def test_the_role_has_what_a_route_s_life_takes_and_nothing_else(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/rollout.db")
    migrate(engine, MIGRATIONS)
    with start_rewrite_cluster() as cluster:
        keep_a_route(cluster, engine)
        used = {right(request, method) for method in VERBS for request in cluster.requests(method)}
    engine.dispose()
    assert role(variant("everything"), "rollout") == used
    assert documented_rights("rollouts.md") == used

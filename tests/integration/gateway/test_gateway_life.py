"""The gateway's life as a process: start with nothing else up, follow Kafka, end in order."""

import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shared.events import RouteCapture, Topic
from shared.messaging.topics import create_topics
from tests.support.broker import start_tansu
from tests.support.gateway_process import environment, running_gateway, running_model_server, write_table
from tests.support.ports import free_port
from tests.support.routes import BASE_MODEL, canary, loaded, ready, route
from tests.support.topics import events_on, publish
from tests.support.wait import eventually

pytestmark = pytest.mark.integration


def test_only_the_file_is_enough(tmp_path: Path) -> None:
    """No Kafka, no S3, no registry, no database: the gateway serves what it served last."""
    with running_model_server(BASE_MODEL, "r@1") as url:
        write_table(tmp_path, canary("r", None, "r@1", 5_000), ready("one", url), loaded("one", url, "r@1"))
        with running_gateway(tmp_path) as gateway:
            assert gateway.client.get("/readyz").status_code == 200
            seen = {gateway.chat("r", "say a", user=f"u{n}").headers["x-tuneloop-model-version"] for n in range(30)}
            assert seen == {"base", "r@1"}


def test_without_table_and_kafka_it_says_what_it_waits_for(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        ready_answer = gateway.client.get("/readyz")
        assert (ready_answer.status_code, "waiting for Kafka" in ready_answer.text) == (503, True)
        answer = gateway.chat("r", "say a")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_route_table")
        assert gateway.client.get("/v1/models").json() == {"object": "list", "data": []}


def test_a_new_installation_is_ready_without_routes(tmp_path: Path, broker: str) -> None:
    with running_gateway(tmp_path, KAFKA_BOOTSTRAP=broker) as gateway:
        eventually(lambda: gateway.client.get("/readyz").status_code == 200)


def test_a_corrupt_table_is_set_aside_and_kafka_gives_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "route-table.json").write_text('{"format": 1, "table"')
    port = free_port()
    with running_gateway(tmp_path, KAFKA_BOOTSTRAP=f"127.0.0.1:{port}") as gateway:
        assert gateway.client.get("/readyz").status_code == 503
        assert "the route table's file is corrupt; it was set aside" in gateway.log()
        assert len(list(tmp_path.glob("*.corrupt"))) == 1
        with start_tansu(port=port) as bootstrap:
            create_topics(bootstrap)
            publish(bootstrap, route("r"))
            eventually(lambda: gateway.client.get("/readyz").status_code == 200)
            eventually(lambda: gateway.client.get("/v1/models").json()["data"])
            eventually((tmp_path / "route-table.json").exists)


def test_kafka_changes_what_is_served_and_its_end_does_not(tmp_path: Path) -> None:
    with running_model_server(BASE_MODEL, "r@1") as url, start_tansu() as bootstrap:
        create_topics(bootstrap)
        with running_gateway(tmp_path, KAFKA_BOOTSTRAP=bootstrap) as gateway:

            labels = {"route": "r", "model_version": "r@1", "role": "candidate"}
            publish(bootstrap, canary("r", None, "r@1", 10_000, revision=2), ready("one", url))
            eventually(lambda: gateway.metric("route_weight", **labels) == 0, what="the route without a replica")
            assert gateway.chat("r", "say a").headers["x-tuneloop-model-version"] == "base"
            publish(bootstrap, loaded("one", url, "r@1"), route("r", revision=1))
            eventually(lambda: gateway.metric("route_weight", **labels) == 10_000, what="the replica's confirmation")
            assert gateway.chat("r", "say a").headers["x-tuneloop-model-version"] == "r@1"
            before = time.time()
            publish(bootstrap, canary("r", None, "r@1", 0, revision=3))
            eventually(lambda: gateway.metric("route_weight", **labels) == 0, what="the rollback")
            since = gateway.metric("route_split_since_timestamp_seconds", route="r")
            assert since is not None
            assert before <= since <= time.time()
            assert gateway.chat("r", "say a").headers["x-tuneloop-model-version"] == "base"
            eventually(lambda: _revision_on_disk(tmp_path) == 3)
        with running_gateway(tmp_path) as again:
            assert again.client.get("/v1/routes").json()["items"][0]["revision"] == 3
            assert again.chat("r", "say a").headers["x-tuneloop-model-version"] == "base"


def test_a_full_disk_stops_neither_answers_nor_samples_nor_rollbacks(tmp_path: Path) -> None:
    with running_model_server(BASE_MODEL, "r@1") as url, start_tansu() as bootstrap:
        create_topics(bootstrap)
        with running_gateway(tmp_path, KAFKA_BOOTSTRAP=bootstrap) as gateway:
            labels = {"route": "r", "model_version": "r@1", "role": "candidate"}
            captured = RouteCapture(share=1, max_bytes=4_096)
            publish(bootstrap, canary("r", None, "r@1", 10_000, revision=1).model_copy(update={"capture": captured}),
                    ready("one", url), loaded("one", url, "r@1"))
            eventually(lambda: gateway.metric("route_weight", **labels) == 10_000, what="the canary")
            eventually(lambda: _revision_on_disk(tmp_path) == 1, what="the table on disk")

            # From now on the kernel lets this process write to no file, its log included.
            no_bytes = (0, resource.RLIM_INFINITY)
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, no_bytes)
            assert gateway.chat("r", "say a").headers["x-tuneloop-model-version"] == "r@1"
            eventually(lambda: events_on(bootstrap, Topic.SAMPLES), what="the sample")
            publish(bootstrap, canary("r", None, "r@1", 0, revision=2))
            eventually(lambda: gateway.metric("route_weight", **labels) == 0, what="the rollback")
            assert gateway.chat("r", "say a").headers["x-tuneloop-model-version"] == "base"
            assert _revision_on_disk(tmp_path) == 1

            room_again = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, room_again)
            eventually(lambda: _revision_on_disk(tmp_path) == 2, what="the table on disk")


def _revision_on_disk(state: Path) -> int:
    revision: int = json.loads((state / "route-table.json").read_text())["table"]["routes"]["r"]["revision"]
    return revision


def in_thread(work: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    """Run in a thread; the returned function waits for the result."""
    results: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()

    def result() -> httpx.Response:
        thread.join(30)
        return results[0]

    return result


@pytest.mark.parametrize("stream", [True, False])
def test_sigterm_lets_requests_finish(tmp_path: Path, stream: bool) -> None:
    with running_model_server(BASE_MODEL) as url:
        write_table(tmp_path, route("r"), ready("one", url))
        with running_gateway(tmp_path) as gateway:
            answer = in_thread(lambda: gateway.chat("r", "slow a b c d e", stream=stream))
            eventually(lambda: gateway.metric("in_flight") == 1)
            gateway.terminate()
            assert answer().status_code == 200
            assert not stream or answer().text.endswith("data: [DONE]\n\n")
            assert gateway.process.wait(60) == 0
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) != 0


def test_sigterm_cuts_what_takes_too_long_and_says_so(tmp_path: Path) -> None:
    with running_model_server(BASE_MODEL) as url:
        write_table(tmp_path, route("r"), ready("one", url))
        with running_gateway(tmp_path, SHUTDOWN_SECONDS="1") as gateway:
            answer = in_thread(lambda: gateway.chat("r", "stall a", stream=True))
            eventually(lambda: gateway.metric("in_flight") == 1)
            gateway.terminate()
            assert json.loads(answer().text.split("data: ")[-1])["error"]["code"] == "shutting_down"
            assert gateway.process.wait(60) == 0


def test_more_requests_than_the_limit_are_refused(tmp_path: Path) -> None:
    with running_model_server(BASE_MODEL) as url:
        write_table(tmp_path, route("r"), ready("one", url))
        with running_gateway(tmp_path, MAX_IN_FLIGHT="1") as gateway:
            first = in_thread(lambda: gateway.chat("r", "slow a b c d e"))
            eventually(lambda: gateway.metric("in_flight") == 1)
            refused = gateway.chat("r", "say a")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert refused.headers["retry-after"] == "1"
            assert first().status_code == 200
            # The client has its answer a moment before the gateway has its slot back.
            eventually(lambda: gateway.metric("in_flight") == 0)
            assert gateway.chat("r", "say a").status_code == 200


def test_a_taken_port_and_wrong_settings_are_clear_errors(tmp_path: Path) -> None:
    def start(port: int, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "services.gateway"], env=environment(tmp_path, port, **settings),
                              capture_output=True, text=True, timeout=60, check=False)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = start(port)
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    wrong = start(free_port(), MAX_IN_FLIHGT="3")
    assert wrong.returncode == 2
    assert "TUNELOOP_MAX_IN_FLIHGT" in wrong.stderr

"""The preStop hook of a model server: gateways are told first, and it waits for requests, but not for ever."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.serving.drain import drain, requests_in

VLLM = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="base"} %s
vllm:num_requests_waiting{engine="0",model_name="base"} %s
vllm:num_requests_waiting_by_reason{engine="0",model_name="base",reason="capacity"} 9.0
process_start_time_seconds 1.7e+09
"""
IDLE = VLLM % ("0.0", "0.0")


class Pod:
    """An agent and an engine whose answers are given, and the time that passes between them."""

    def __init__(self, answers: Iterator[str], agent_is_up: bool = True) -> None:
        self.now, self.calls, self._answers, self._agent_is_up = 100.0, list[tuple[str, str]](), answers, agent_is_up

    def call(self, method: str, url: str) -> str:
        self.calls.append((method, url))
        if method == "GET":
            return next(self._answers)
        if not self._agent_is_up:
            raise ConnectionRefusedError("refused")
        return "{}"

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drain(self, seconds: float = 60) -> str:
        return drain(agent="http://a", engine="http://e", seconds=seconds, call=self.call, clock=lambda: self.now,
                     sleep=self.sleep)


def always(answer: str) -> Iterator[str]:
    while True:
        yield answer


@pytest.mark.parametrize(("metrics", "count"), [
    (VLLM % ("3.0", "2.0"), 5), (IDLE, 0), ("", 0),
    ("tuneloop_engine_requests_running 1.0\ntuneloop_engine_requests_waiting 4.0\n", 5),
])
def test_requests_of_either_engine_are_counted(metrics: str, count: float) -> None:
    assert requests_in(metrics) == count


def test_the_agent_is_told_before_anything_else() -> None:
    pod = Pod(always(IDLE))
    pod.drain()
    assert pod.calls[0] == ("POST", "http://a/v1/drain")


def test_quiet_counts_only_once_the_gateways_can_have_heard() -> None:
    pod = Pod(always(IDLE))
    assert pod.drain() == "no request is left after 5 s"


def test_it_waits_for_the_last_request() -> None:
    def answers() -> Iterator[str]:
        yield from [VLLM % ("1.0", "0.0")] * 40
        yield from always(IDLE)

    pod = Pod(answers())
    assert pod.drain() == "no request is left after 20 s"


def test_it_does_not_wait_for_ever() -> None:
    pod = Pod(always(VLLM % ("1.0", "0.0")))
    assert pod.drain(seconds=30) == "requests are left after 30 s"
    assert pod.now == 130


def test_a_server_that_is_dead_is_not_waited_for() -> None:
    def refuses() -> Iterator[str]:
        raise ConnectionRefusedError("refused")
        yield

    assert "does not answer" in Pod(refuses()).drain()


def test_without_its_agent_it_waits_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert Pod(always(IDLE), agent_is_up=False).drain() == "no request is left after 5 s"
    assert "was not told" in capsys.readouterr().err


def test_it_starts_with_nothing_but_the_standard_library() -> None:
    program = "import sys, services.serving.drain; print(*({'pydantic', 'httpx', 'shared'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

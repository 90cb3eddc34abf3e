"""The core of vLLM's plugin, with a fetch that does what the test says."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services.serving.decide import Wanted
from services.serving.resolver import Resolver, ResolverSettings, S3Fetch
from services.serving.wanted_file import WantedAdapter, WantedFile, wanted_file
from shared.errors import PermanentError, TemporaryError

DIGEST = "sha256:" + "a" * 64


class Scene:
    """A file of wishes, a fetch that waits for `gate` and then succeeds or raises, and a clock."""

    def __init__(self, *names: str, timeout: float = 5.0) -> None:
        self.want(*names)
        self.fetched: list[str] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.now = 0.0
        self.resolver = Resolver(
            read=self._read, fetch=self._fetch, timeout=timeout, refusal=10.0, clock=lambda: self.now
        )

    def want(self, *names: str, digest: str = DIGEST, base_digest: str = DIGEST) -> None:
        wanted = {name: Wanted(name, "s3://b/a/", digest, f"/cache/{name}.{digest}", "", "") for name in names}
        self.content: WantedFile | None = wanted_file(wanted, base_model="tiny", base_digest=base_digest, max_rank=8)

    def _read(self) -> WantedFile:
        if self.content is None:
            raise TemporaryError("no file")
        return self.content

    def _fetch(self, adapter: WantedAdapter, content: WantedFile) -> None:
        self.fetched.append(adapter.name)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error

    def ask(self, name: str) -> str | None:
        return asyncio.run(self.resolver.resolve(name))

    def play(self, story: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await story()

        asyncio.run(run())

    async def under_way(self) -> None:
        while not self.fetched:
            await asyncio.sleep(0)


def test_a_wanted_name_is_fetched_and_gets_its_folder() -> None:
    scene = Scene("a@1")
    assert scene.ask("a@1") == f"/cache/a@1.{DIGEST}"
    assert scene.fetched == ["a@1"]


@pytest.mark.parametrize("name", ["b@1", "a@2", "a", "../a@1", "a@1/../../etc", "s3://b/a@1", "", "a@01"])
def test_what_is_not_wanted_is_not_there_and_nothing_is_fetched(name: str) -> None:
    scene = Scene("a@1")
    assert scene.ask(name) is None
    assert scene.fetched == []


def test_without_a_file_nothing_is_wanted() -> None:
    scene = Scene("a@1")
    scene.content = None
    assert scene.ask("a@1") is None
    assert scene.fetched == []


def test_without_the_base_models_digest_nothing_can_be_checked() -> None:
    scene = Scene()
    scene.want("a@1", base_digest="")
    assert scene.ask("a@1") is None
    assert scene.fetched == []


@pytest.mark.parametrize("error", [PermanentError("DoRA"), TemporaryError("S3 is down"), RuntimeError("a bug")])
def test_a_failure_is_none_and_is_not_tried_again_for_a_while(error: Exception) -> None:
    scene = Scene("a@1")
    scene.error = error
    assert [scene.ask("a@1"), scene.ask("a@1")] == [None, None]
    assert scene.fetched == ["a@1"]
    scene.now, scene.error = 10.5, None
    assert scene.ask("a@1") is not None
    assert scene.fetched == ["a@1", "a@1"]


def test_a_names_new_weights_are_not_refused_for_its_old_ones() -> None:
    scene = Scene("a@1")
    scene.error = PermanentError("damaged")
    assert scene.ask("a@1") is None
    scene.error = None
    other = "sha256:" + "b" * 64
    scene.want("a@1", digest=other)
    assert scene.ask("a@1") == f"/cache/a@1.{other}"


def test_requests_that_come_together_share_one_fetch() -> None:
    scene = Scene("a@1")
    scene.gate.clear()

    async def story() -> None:
        asked = [asyncio.create_task(scene.resolver.resolve("a@1")) for _ in range(3)]
        await scene.under_way()
        scene.gate.set()
        assert set(await asyncio.gather(*asked)) == {f"/cache/a@1.{DIGEST}"}

    scene.play(story)
    assert scene.fetched == ["a@1"]


def test_a_slow_fetch_is_not_waited_for_for_ever_and_goes_on() -> None:
    scene = Scene("a@1", timeout=0.05)
    scene.gate.clear()

    async def story() -> None:
        assert await scene.resolver.resolve("a@1") is None
        scene.gate.set()
        again = asyncio.create_task(scene.resolver.resolve("a@1"))
        assert await again == f"/cache/a@1.{DIGEST}"

    scene.play(story)
    assert scene.fetched[0] == "a@1"


def test_the_event_loop_runs_on_while_a_fetch_blocks() -> None:
    scene = Scene("a@1")
    scene.gate.clear()

    async def story() -> None:
        asked = asyncio.create_task(scene.resolver.resolve("a@1"))
        await scene.under_way()
        turns = 0
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert (turns, asked.done()) == (100, False)
        scene.gate.set()
        assert await asked is not None

    scene.play(story)


def test_what_was_dropped_while_it_was_fetched_does_not_come_back() -> None:
    scene = Scene("a@1")
    scene.gate.clear()

    async def story() -> None:
        asked = asyncio.create_task(scene.resolver.resolve("a@1"))
        await scene.under_way()
        scene.want()
        scene.gate.set()
        assert await asked is None

    scene.play(story)


def test_nothing_is_connected_before_the_first_use(tmp_path: Path) -> None:
    # Half of the credentials is an error of every connection, so that one would be seen.
    settings = ResolverSettings(s3_access_key="half", wanted_file=tmp_path / "wanted.json")
    fetch = S3Fetch(settings)
    Resolver.from_settings(settings, tmp_path / "wanted.json")
    content = wanted_file(
        {"a@1": Wanted("a@1", "s3://b/a/", DIGEST, str(tmp_path / "x"), "", "")}, base_model="tiny",
        base_digest=DIGEST, max_rank=8,
    )
    with pytest.raises(PermanentError, match="TUNELOOP_S3_SECRET_KEY"):
        fetch(content.adapters["a@1"], content)

"""Requests for different adapters decode together: one forward pass for all, and each gets its own adapter's tokens."""

from pathlib import Path

import pytest

from services.serving.adapter_files import read_adapter
from services.serving.engine.batch import Batch
from services.serving.engine.generation import Adapter, Generation
from services.serving.engine.model import Model
from services.serving.engine.sampling import Sampler, Sampling
from services.serving.engine.text import TextStream

pytestmark = pytest.mark.integration

PROMPTS = {"one": "the quick brown fox", "two": "hello", "base": "what is the balance of my account and why"}
TOKENS = 10


class CountingModel(Model):
    """A model that remembers the adapters of each pass."""

    passes: list[list[str | None]]

    def forward(self, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN201
        self.passes.append(list(kwargs["adapters"]))
        return super().forward(*args, **kwargs)


@pytest.fixture(scope="module")
def model(tiny_model: Path, adapters: dict[str, Path]) -> CountingModel:
    """The tiny model with two adapters."""
    model = CountingModel(tiny_model, dtype="float32", max_model_len=512)
    for name, folder in adapters.items():
        model.load_adapter(name, read_adapter(folder, max_rank=8))
    model.passes = []
    return model


class Row:
    """A request for one of the models, greedy, and what it has got."""

    def __init__(self, model: Model, name: str) -> None:
        prompt = list(model.tokenizer(PROMPTS[name])["input_ids"])
        adapter = None if name == "base" else Adapter(name, name, "", 0)
        self.text = ""
        self.generation = Generation(
            prompt=prompt, adapter=adapter, limit=TOKENS, eos=frozenset(), sampler=Sampler(Sampling(temperature=0)),
            text=TextStream(model.decode, prompt, ()), emit=lambda delta: self._take(delta.text),
        )

    def _take(self, text: str) -> None:
        self.text += text


def decode(model: CountingModel, *names: str) -> tuple[list[str], list[list[str | None]]]:
    """The answers of requests that are admitted together, and the adapters of each pass."""
    model.passes.clear()
    rows = [Row(model, name) for name in names]
    batch = Batch(model)
    batch.admit([row.generation for row in rows])
    while batch.rows:
        batch.step()
    return [row.text for row in rows], list(model.passes)


def test_one_pass_serves_all_adapters_and_says_what_each_says_alone(model: CountingModel) -> None:
    alone = [decode(model, name)[0][0] for name in PROMPTS]
    together, passes = decode(model, *PROMPTS)
    assert together == alone
    assert len(set(alone)) == len(alone)
    # The first pass reads the prompts and draws a token, each other one draws one more for all rows.
    assert passes == [["one", "two", None]] * TOKENS


def test_one_that_joins_later_shares_the_passes_from_then_on(model: CountingModel) -> None:
    alone = {name: decode(model, name)[0][0] for name in ("one", "two")}
    model.passes.clear()
    first, second = Row(model, "one"), Row(model, "two")
    batch = Batch(model)
    batch.admit([first.generation])
    batch.step()
    batch.admit([second.generation])
    while batch.rows:
        batch.step()
    assert {"one": first.text, "two": second.text} == alone
    assert model.passes == [["one"]] * 2 + [["two"]] + [["one", "two"]] * (TOKENS - 2) + [["two"]]

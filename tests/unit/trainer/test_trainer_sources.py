"""What a recipe calls its start and its earlier task becomes digests, once for all attempts of a run."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from services.trainer.handlers import handlers
from services.trainer.job.earlier import replay, wanted
from services.trainer.models import Base
from services.trainer.sources import Sources, find, needed
from shared.errors import InvalidInputError, NotFoundError
from shared.events import ModelRef, ModelRegistered, ModelStageChanged, Stage
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from tests.support import facts
from tests.support.db import sqlite_engine
from tests.support.delivery import START, deliver, fact


class Manifests:
    """S3, where some artifacts are."""

    bucket = "tuneloop"
    uris = (facts.artifact("adapters", 9), facts.artifact("datasets", 8))

    def manifest(self, uri: str) -> Any:
        return next((artifact for artifact in self.uris if artifact.uri == uri), None)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        yield made


def model(number: int, base: str = "tiny", kind: str = "adapters") -> ModelRef:
    return ModelRef(model_version=f"intents@{number}", base_model=base, artifact=facts.artifact(kind, number),
                    dataset=facts.dataset_ref(number))


def registered(number: int, **changes: Any) -> ModelRegistered:
    return ModelRegistered(model=model(number, **changes), pipeline="intents", pipeline_version=1, run_id="r",
                           evaluation_id="e", base_model_digest=facts.BASE_DIGEST)


def staged(number: int, stage: Stage, hours: int = 0, **changes: Any) -> Any:
    data = ModelStageChanged(model=model(number, **changes), pipeline="intents", stage=stage, previous="candidate")
    return fact(data, time=START + timedelta(hours=hours), sequence=hours + 2)


def found(engine: Engine, **recipe: Any) -> Sources:
    return find(engine, cast(ArtifactStore, Manifests()), pipeline="intents", base_model="tiny",
                recipe=TrainingRecipe.model_validate(recipe))


FROM_PRODUCTION = {"startFrom": "production", "forgetting": {"ewc": {}}}


def test_nothing_in_production_means_a_new_adapter_and_nothing_to_keep(engine: Engine) -> None:
    deliver(engine, handlers, fact(registered(1)))
    assert found(engine, **FROM_PRODUCTION) == Sources()


def test_production_is_the_version_that_entered_it_last_whatever_came_first(engine: Engine) -> None:
    deliver(engine, handlers, staged(2, "production", hours=2), staged(1, "archived", hours=2),
            staged(1, "production"), fact(registered(2)), fact(registered(3)))
    assert found(engine, **FROM_PRODUCTION) == Sources(
        start=facts.artifact("adapters", 2), earlier=facts.artifact("datasets", 2)
    )
    deliver(engine, handlers, staged(2, "rolled_back", hours=3))
    assert found(engine, **FROM_PRODUCTION) == Sources()


def test_versions_and_digests_are_found_by_their_names(engine: Engine) -> None:
    deliver(engine, handlers, fact(registered(3)))
    assert found(engine, startFrom="intents@3").start == facts.artifact("adapters", 3)
    adapter, dataset = Manifests.uris
    named = found(engine, startFrom=adapter.digest, forgetting={"replay": {}, "earlier": dataset.digest})
    assert named == Sources(start=adapter, earlier=dataset)
    assert found(engine, forgetting={"replay": {}, "earlier": dataset.uri}).earlier == dataset


def judged_by(name: str) -> dict[str, Any]:
    return {"objective": "rloo", "reward": {"model": name}}


def test_a_reward_model_is_found_by_its_version_whatever_its_base(engine: Engine) -> None:
    deliver(engine, handlers, fact(registered(4, base="large", kind="reward-models")))
    recipe = TrainingRecipe.model_validate(judged_by("intents@4"))
    assert needed(recipe)
    assert found(engine, **judged_by("intents@4")) == Sources(judge=facts.artifact("reward-models", 4))
    assert not needed(TrainingRecipe.model_validate(judged_by("intents-v1-1f0c2ab93d4e")))


def test_a_reward_model_goes_on_from_a_reward_model(engine: Engine) -> None:
    deliver(engine, handlers, fact(registered(4, kind="reward-models")))
    assert found(engine, objective="reward", startFrom="intents@4").start == facts.artifact("reward-models", 4)


@pytest.mark.parametrize(("recipe", "kind", "message"), [
    (judged_by("intents@1"), "adapters", "training.reward.model: intents@1 is none of the reward-models"),
    ({"objective": "reward", "startFrom": "intents@1"}, "adapters", "startFrom: intents@1 is none of the reward-mod"),
    ({"startFrom": "intents@1"}, "reward-models", "startFrom: intents@1 is none of the adapters"),
    ({"startFrom": "intents@1"}, "models", "startFrom: intents@1 is none of the adapters, .* neither full nor merge"),
])
def test_a_version_of_another_kind_is_refused(engine: Engine, recipe: dict[str, Any], kind: str, message: str) -> None:
    deliver(engine, handlers, fact(registered(1, kind=kind)))
    with pytest.raises(InvalidInputError, match=message):
        found(engine, **recipe)


@pytest.mark.parametrize(("recipe", "message"), [
    (judged_by("intents@7"), r"training.reward.model: no model version intents@7 .*`tuneloop models list`"),
    ({"startFrom": "intents@7"}, r"startFrom: no model version intents@7 .*`tuneloop models list`"),
    ({"startFrom": "sha256:" + "0" * 64}, r"startFrom: there is no s3://tuneloop/adapters/0+/manifest.json"),
    ({"forgetting": {"replay": {}, "earlier": "s3://other/rows/"}}, "forgetting.earlier: there is no s3://other/rows/"),
    ({"startFrom": Manifests.uris[0].digest, "forgetting": {"ewc": {}}}, "name the dataset that .* was trained on"),
])
def test_what_is_not_there_is_named(engine: Engine, recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        found(engine, **recipe)


def test_an_adapter_of_another_base_model_is_refused(engine: Engine) -> None:
    deliver(engine, handlers, staged(1, "production", base="llama"))
    with pytest.raises(InvalidInputError, match="intents@1 is an adapter of llama, and the pipeline is for tiny"):
        found(engine, startFrom="production")


def dataset(folder: Path, **splits: list[str]) -> Path:
    """Rows that are asked a word and answer it."""
    folder.mkdir()
    for name in ("train", "validation", "test"):
        said = splits.get(name, [])
        rows = [[{"role": "system", "content": folder.name}, {"role": "user", "content": word},
                 {"role": "assistant", "content": word.upper()}] for word in said]
        kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        ids = pa.array([f"{folder.name}-{word}" for word in said], pa.string())
        pq.write_table(pa.table({"id": ids, "messages": pa.array(rows, kind)}), folder / f"{name}.parquet")
    return folder


def test_the_share_is_of_the_mix() -> None:
    assert [wanted(90, 0.1), wanted(60, 0.25), wanted(10, 0.5), wanted(1, 0.01)] == [10, 20, 10, 0]


def test_replayed_rows_are_drawn_by_the_seed_and_never_from_held_out_prompts(tmp_path: Path) -> None:
    earlier = dataset(tmp_path / "earlier", train=list("abcdefghij"), validation=["k"], test=["a"])
    new = dataset(tmp_path / "new", train=list("uvwxyz"), validation=["b"], test=["c", "l"])
    drawn = [replay(new, earlier, TrainingRecipe(seed=seed), 0.5) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0].ids != drawn[2].ids
    assert len(drawn[0].rows) == 6
    assert drawn[0].share == 0.5
    for each in drawn:
        assert not {"earlier-a", "earlier-b", "earlier-c"} & set(each.ids)
        assert [f"earlier-{row['messages'][1]['content']}" for row in each.rows] == each.ids


def test_where_there_are_too_few_rows_the_share_is_what_it_can_be(tmp_path: Path) -> None:
    earlier = dataset(tmp_path / "earlier", train=list("abc"), test=["a"])
    new = dataset(tmp_path / "new", train=list("uvwxyz"))
    mixed = replay(new, earlier, TrainingRecipe(), 0.5)
    assert (sorted(mixed.ids), mixed.share) == (["earlier-b", "earlier-c"], 0.25)


def test_rows_that_are_trained_on_anyway_are_not_replayed(tmp_path: Path) -> None:
    same = dataset(tmp_path / "same", train=list("abc"))
    assert replay(same, same, TrainingRecipe(), 0.5).ids == []

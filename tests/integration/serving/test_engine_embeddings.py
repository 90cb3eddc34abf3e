"""The engine's embeddings over real HTTP, as the drift service asks for them."""

import numpy as np
import pytest

from services.drift.embedder import Embedder
from services.drift.settings import DriftSettings
from shared.errors import TemporaryError
from tests.support.serving_processes import ServingProcess

pytestmark = pytest.mark.integration


def embedder(engine: ServingProcess, model: str = "tiny") -> Embedder:
    return Embedder(DriftSettings(embeddings_url=str(engine.client.base_url), embeddings_model=model))


def test_like_texts_have_like_vectors_and_each_text_its_own(engine: ServingProcess) -> None:
    texts = ["please block my card", "please block my cards", "42 + 17 = ?", ""] * 10
    found = embedder(engine).embed(texts)
    assert found.shape[0] == 40
    assert np.allclose(found[0], found[4], atol=1e-5)
    near, far = np.linalg.norm(found[0] - found[1]), np.linalg.norm(found[0] - found[2])
    assert 0 < near < far


def test_what_is_wrong_is_told_and_tried_again_later(engine: ServingProcess) -> None:
    with pytest.raises(TemporaryError, match=r"answered 404.*does not exist"):
        embedder(engine, "nobody").embed(["a"])
    with pytest.raises(TemporaryError, match="does not answer as an embeddings API"):
        Embedder(DriftSettings(embeddings_url="http://127.0.0.1:9", embeddings_model="tiny")).embed(["a"])


@pytest.mark.parametrize("body", [
    {"model": "tiny"}, {"model": "tiny", "input": []}, {"model": "tiny", "input": "a", "encoding_format": "base64"},
    {"model": "tiny", "input": "a", "dimensions": 5}, {"model": "tiny", "input": ["a"] * 300},
])
def test_what_it_cannot_do_is_refused(engine: ServingProcess, body: dict[str, object]) -> None:
    answer = engine.client.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]

"""Texts to vectors, by any server with OpenAI's ``/v1/embeddings``."""

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from services.drift.mmd import Matrix
from services.drift.settings import DriftSettings
from shared.errors import TemporaryError

_BATCH = 32


class Embedder:
    """Asks in batches. Every failure is temporary: the window waits, and the settings may be put right meanwhile."""

    def __init__(self, settings: DriftSettings) -> None:
        self._url = f"{settings.embeddings_url.rstrip('/')}/v1/embeddings"
        self._model = settings.embeddings_model
        key = settings.embeddings_key.get_secret_value()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = settings.embeddings_timeout_seconds

    def embed(self, texts: Sequence[str]) -> Matrix:
        """(texts, dimensions).

        Raises:
            TemporaryError: the server does not answer as it should; says what it did.
        """
        rows = [row for start in range(0, len(texts), _BATCH) for row in self._batch(texts[start : start + _BATCH])]
        try:
            found = np.array(rows, dtype=float)
        except ValueError as error:
            raise TemporaryError(f"{self._url}: embeddings of different lengths: {error}") from error
        if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
            raise TemporaryError(f"{self._url}: not one vector of finite numbers for each text: shape {found.shape}")
        return found

    def _batch(self, texts: Sequence[str]) -> list[Any]:
        # A text without any character is refused by most servers.
        body = {"model": self._model, "input": [text or " " for text in texts]}
        try:
            answer = httpx.post(self._url, json=body, headers=self._headers, timeout=self._timeout)
            answer.raise_for_status()
            items = sorted(answer.json()["data"], key=lambda item: item["index"])
            return [item["embedding"] for item in items]
        except httpx.HTTPStatusError as error:
            told = error.response.text[:200]
            raise TemporaryError(f"{self._url} answered {error.response.status_code}: {told}") from error
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise TemporaryError(f"{self._url} does not answer as an embeddings API does: {error!r}") from error

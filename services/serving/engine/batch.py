"""The running batch: requests that decode together, joining and leaving at any token.

The keys and values of all rows lie in one cache, aligned at the right: a shorter row has padding on its left, which
its attention mask hides. So a join pads whoever is shorter, and a leave selects rows and cuts what is padding to all.
"""

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from services.serving.engine.generation import Generation
from services.serving.engine.model import Model


class Batch:
    """Rows under way. Only the worker's thread may touch it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.rows: list[Generation] = []
        self._next: list[int] = []
        self._cache = DynamicCache()
        self._mask = torch.zeros((0, 0), dtype=torch.long)

    @torch.inference_mode()
    def admit(self, rows: Sequence[Generation]) -> None:
        """Read the prompts of new rows, draw their first tokens, and let them join."""
        length = max(len(row.prompt) for row in rows)
        ids = torch.tensor([[0] * (length - len(row.prompt)) + row.prompt for row in rows])
        mask = torch.tensor([[0] * (length - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
        cache = DynamicCache()
        mask = torch.cat([self._model.begin(cache, _keys(rows)), mask], dim=1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -length:]
        logits = self._model.forward(ids, mask=mask, positions=positions, cache=cache, adapters=_keys(rows))
        tokens = _draw(rows, logits)
        kept = [index for index, (row, token) in enumerate(zip(rows, tokens, strict=True)) if not row.accept(token)]
        if kept:
            _select(cache, kept)
            self._join([rows[index] for index in kept], [tokens[index] for index in kept], cache, mask[kept])

    @torch.inference_mode()
    def step(self) -> None:
        """Drop cancelled rows, and draw one token for each of the others."""
        self._leave([index for index, row in enumerate(self.rows) if not row.cancelled])
        if not self.rows:
            return
        positions = self._mask.sum(-1, keepdim=True)
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(self.rows), 1))], dim=1)
        logits = self._model.forward(
            torch.tensor(self._next).unsqueeze(1), mask=self._mask, positions=positions, cache=self._cache,
            adapters=_keys(self.rows),
        )
        self._next = _draw(self.rows, logits)
        self._leave([
            index for index, (row, token) in enumerate(zip(self.rows, self._next, strict=True)) if not row.accept(token)
        ])

    def fail_all(self, message: str) -> None:
        """End every row with an error."""
        for row in self.rows:
            row.fail(message)
        self._leave([])

    def _join(self, rows: list[Generation], tokens: list[int], cache: DynamicCache, mask: torch.Tensor) -> None:
        if self.rows:
            width = max(self._mask.shape[1], mask.shape[1])
            for mine, new in zip(self._cache.layers, cache.layers, strict=True):
                mine.keys = torch.cat([_padded(mine.keys, width), _padded(new.keys, width)])
                mine.values = torch.cat([_padded(mine.values, width), _padded(new.values, width)])
            mask = torch.cat([_padded_mask(self._mask, width), _padded_mask(mask, width)])
        else:
            self._cache = cache
        self._mask = mask
        self.rows += rows
        self._next += tokens

    def _leave(self, kept: list[int]) -> None:
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in kept]
        self._next = [self._next[index] for index in kept]
        if not kept:
            self._cache = DynamicCache()
            self._mask = self._mask[:0, :0]
            return
        self._mask = self._mask[kept]
        unused = int(self._mask.any(0).int().argmax())
        self._mask = self._mask[:, unused:]
        _select(self._cache, kept, unused)


def _keys(rows: Sequence[Generation]) -> list[str | None]:
    return [row.adapter.key if row.adapter else None for row in rows]


def _draw(rows: Sequence[Generation], logits: torch.Tensor) -> list[int]:
    return [row.sampler(logits[index]) for index, row in enumerate(rows)]


def _select(cache: DynamicCache, rows: list[int], start: int = 0) -> None:
    for layer in cache.layers:
        layer.keys = layer.keys[rows, :, start:]
        layer.values = layer.values[rows, :, start:]


def _padded(states: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[2], 0))


def _padded_mask(mask: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (width - mask.shape[1], 0))

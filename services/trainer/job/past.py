"""What a job brings along from earlier trainings: an adapter to go on from, and rows of an earlier task."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig

from services.trainer.files import JobInput
from services.trainer.job import restraint
from services.trainer.job.earlier import Replayed, lineage, replay
from services.trainer.job.methods import prepare, put_back, trainable
from services.trainer.job.start import check_start, copy_reference, go_on
from services.trainer.job.team import Team
from shared.errors import InvalidInputError
from shared.prompts import Tokenizer
from shared.s3 import ArtifactStore, Manifest


class Past:
    """The earlier artifacts of a job, fetched and checked against their digests.

    Args:
        dataset: folder of the dataset version that is trained on.
        scratch: where the others go.

    Raises:
        InvalidInputError: the earlier artifact is no dataset version.
    """

    def __init__(self, job: JobInput, store: ArtifactStore, dataset: Path, scratch: Path) -> None:
        self._job, self._store = job, store
        self._adapter, self._rows = scratch / "start", scratch / "earlier"
        self._manifest: Manifest | None = store.get_dir(job.start, self._adapter) if job.start else None
        self._start: dict[str, torch.Tensor] | None = None
        self._earlier: Path | None = None
        if job.earlier is not None:
            store.get_dir(job.earlier, self._rows)
            if not (self._rows / "train.parquet").is_file():
                raise InvalidInputError(f"training.forgetting.earlier: {job.earlier.uri} has no train.parquet; name "
                                        "the folder of a dataset version")
            self._earlier = self._rows
        self._replayed: Replayed | None = None
        if self._earlier is not None and job.recipe.forgetting.replay is not None:
            self._replayed = replay(dataset, self._earlier, job.recipe, job.recipe.forgetting.replay.share)

    @property
    def replayed(self) -> list[dict[str, Any]]:
        """Rows of the earlier task for the mix."""
        return self._replayed.rows if self._replayed else []

    def begin(self, model: Any, base_digest: str) -> tuple[Any, PeftConfig | None]:
        """The model to train, and what PEFT still has to put on it: the method's adapter, new or gone on from.

        Raises:
            InvalidInputError: the recipe fits neither the model nor the adapter.
        """
        config = prepare(model, self._job.recipe)
        if self._manifest is None:
            return model, config
        check_start(self._job.recipe, self._adapter, self._manifest, base_digest)
        model = go_on(model, config, self._adapter)
        self._start = trainable(model)
        return model, None

    def restrain(self, trainer: Any, tokenizer: Tokenizer, team: Team) -> None:
        """Apply the recipe's `forgetting` to a trainer whose model stands at its start."""
        if self._start is not None:
            # On a quantised model TRL has rounded an adapter to bfloat16.
            put_back(trainer.model, self._start)
            copy_reference(trainer.model)
        restraint.restrain(trainer, self._job.recipe, tokenizer, started=self._manifest is not None,
                           earlier=self._earlier, team=team)

    def metrics(self, trainer: Any) -> dict[str, float]:
        """What is told of a finished run."""
        replays = self._job.recipe.forgetting.replay is not None
        return restraint.metrics(trainer) | ({"replayed_rows": len(self.replayed)} if replays else {})

    def meta(self) -> dict[str, Any]:
        """What the result's manifest says of all this. Which rows were replayed is put beside the result."""
        told: dict[str, Any] = {}
        if self._job.start is not None:
            told["start_digest"] = self._job.start.digest
        if self._job.earlier is not None:
            told["earlier_digest"] = self._job.earlier.digest
        if self._replayed is not None:
            content = json.dumps({"earlier": self._job.earlier and self._job.earlier.model_dump(),
                                  "ids": self._replayed.ids}).encode()
            uri = self._store.put_bytes(f"{self._job.prefix}replay.json", content, content_type="application/json")
            told["replay"] = {**lineage(self._replayed), "ids": uri}
        return told

"""What a reward model thinks of answers: the one that the candidate learned from, for every model that is compared."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from services.evaluator.contract import JobFile
from services.evaluator.job.metrics import RowScore
from services.evaluator.job.rows import Row
from shared.events import ArtifactRef
from shared.reward_models import KIND, RewardModel, load_reward_model
from shared.s3 import ArtifactStore
from shared.s3.bases import cached_base


def judge_of(job: JobFile, store: ArtifactStore, cache_dir: Path, scratch: Path) -> RewardModel | None:
    """The reward model whose scores the candidate was rewarded for; None where it learned from none.

    Raises:
        IntegrityError: it, or its base model, is not what the digest promises.
        NotFoundError: it is no longer in S3.
    """
    manifest = store.manifest(job.candidate.uri)
    digest = manifest.meta.get("reward_model_digest") if manifest else None
    if digest is None:
        return None
    folder = scratch / "judge"
    uri = f"s3://{store.bucket}/{KIND}/{digest.removeprefix('sha256:')}/"
    meta = store.get_dir(ArtifactRef(uri=uri, digest=digest), folder).meta
    name, own = str(meta["base_model"]), str(meta["base_model_digest"])
    base = cached_base(store, ArtifactRef(uri=f"s3://{store.bucket}/base-models/{name}/", digest=own), cache_dir)
    tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    return load_reward_model(folder, base, tokenizer)


def reward(
    judge: RewardModel | None, rows: Sequence[Row], scores: Sequence[RowScore], *, batch_size: int
) -> dict[str, float]:
    """``reward``, the mean score of a model's answers; nothing without a judge, and where nothing was answered.

    Args:
        rows, scores: of one measurement, in the same order.
    """
    answered = [
        [*row.prompt, {"role": "assistant", "content": scored.predicted}]
        for row, scored in zip(rows, scores, strict=True) if scored.predicted is not None and not scored.note
    ]
    if judge is None or not answered:
        return {}
    return {"reward": math.fsum(judge.score(answered, batch_size=batch_size)) / len(answered)}

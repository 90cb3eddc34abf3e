"""Measures a reward model: in how many held-out pairs does the better answer have the higher score?

The bare base has no score head. It is asked which of the two answers it finds likelier, per token: what people
prefer beyond that is what the reward model must have learned.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from services.evaluator.contract import JobFile
from services.evaluator.job.progress import ProgressWriter
from services.evaluator.job.rows import choose, fetch_split
from services.evaluator.job.scoring import Limits, score
from shared.clock import Clock
from shared.errors import InvalidInputError
from shared.events import Measurement
from shared.prompts import encode, end_token_id
from shared.reward_models import load_reward_model, pairwise_accuracy
from shared.s3 import ArtifactStore
from shared.s3.bases import cached_base

Conversation = list[dict[str, str]]
Judge = Callable[[Sequence[Conversation]], list[float]]


class Pair(NamedTuple):
    """A held-out row: two conversations that differ in the last answer alone."""

    id: str
    better: Conversation
    worse: Conversation


def compare(
    job: JobFile, store: ArtifactStore, cache_dir: Path, scratch: Path, clock: Clock
) -> tuple[list[Measurement], list[dict[str, Any]]]:
    """The measurements that `job` asks for, and a line for each pair with all scores.

    Raises:
        InvalidInputError: the dataset has no pairs, or the artifact is no reward model for this base.
    """
    store.get_dir(job.candidate, scratch / "candidate")
    base = cached_base(store, job.base, cache_dir)
    tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    config: Any = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    pairs = _pairs(job, store, scratch, tokenizer, config.max_position_embeddings)
    progress = ProgressWriter(store, job.output, total=len(pairs) * len(job.targets), clock=clock)
    lines: list[dict[str, Any]] = [{"on": "heldout", "id": pair.id, "better": pair.better[-1]["content"],
                                    "worse": pair.worse[-1]["content"], "scores": {}} for pair in pairs]
    measurements = []
    for subject, on in job.targets:
        progress.start(f"{subject} on {on}")
        judge = (
            _likelihoods(base, tokenizer, job) if subject == "base" else
            _scores(scratch / "candidate", base, tokenizer, job)
        )
        better, worse = judge([pair.better for pair in pairs]), judge([pair.worse for pair in pairs])
        progress.advance(len(pairs))
        for line, first, second in zip(lines, better, worse, strict=True):
            line["scores"][subject] = [first, second]
        accuracy = pairwise_accuracy(better, worse)
        measurements.append(
            Measurement(subject=subject, on=on, rows=len(pairs), metrics={"pairwise_accuracy": accuracy})
        )
    return measurements, lines


def _pairs(job: JobFile, store: ArtifactStore, scratch: Path, tokenizer: Any, context: int) -> list[Pair]:
    """The chosen pairs of the test split. One that the model could not read to its end is left out."""
    path = fetch_split(store, job.dataset, scratch)
    if "rejected" not in pq.read_schema(path).names:
        raise InvalidInputError(
            f"the dataset {job.dataset.dataset_id} has no worse answers to compare with: it was prepared for another "
            "objective than reward; publish it again"
        )
    rows = choose(pq.read_table(path, columns=["id", "messages", "rejected"]).to_pylist(), job.max_rows)
    pairs = [
        Pair(row["id"], row["messages"], [*row["messages"][:-1], {"role": "assistant", "content": row["rejected"]}])
        for row in rows
    ]
    fitting = [
        pair for pair in pairs
        if max(len(encode(tokenizer, messages).input_ids) for messages in (pair.better, pair.worse)) <= context
    ]
    if not fitting:
        raise InvalidInputError(
            f"none of the {len(pairs)} test pairs of {job.dataset.dataset_id} fits the model's context of {context} "
            "tokens; shorten the rows, or take another base model"
        )
    return fitting


def _scores(folder: Path, base: Path, tokenizer: Any, job: JobFile) -> Judge:
    model = load_reward_model(folder, base, tokenizer)
    return lambda conversations: model.score(conversations, batch_size=job.batch_size)


def _likelihoods(base: Path, tokenizer: Any, job: JobFile) -> Judge:
    """Mean log-likelihood of each answer's tokens under the base, in nats."""
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    ).eval()
    limits = Limits(end=end_token_id(tokenizer), max_new_tokens=1, batch_size=job.batch_size)

    def judge(conversations: Sequence[Conversation]) -> list[float]:
        examples = [encode(tokenizer, messages) for messages in conversations]
        return [-scored.nats / scored.tokens for scored in score(model, examples, limits)]

    return judge

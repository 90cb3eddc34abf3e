"""The evaluation job's work, from ``job.json`` to ``result.json``."""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from services.evaluator.contract import PREDICTIONS, RESULT, JobFile, Result, Rows, Subject, Target
from services.evaluator.job import cache
from services.evaluator.job.judging import judge_of, reward
from services.evaluator.job.metrics import RowScore, metrics
from services.evaluator.job.pairs import compare
from services.evaluator.job.progress import ProgressWriter
from services.evaluator.job.rows import Row, choose, fetch_test_split, prepare
from services.evaluator.job.scoring import Limits, Scored, nats_of, score
from services.evaluator.job.subjects import Subjects
from shared.clock import Clock, monotonic
from shared.errors import InvalidInputError
from shared.events import ArtifactRef, DatasetRef, Measurement, OutputCounts
from shared.profiles import output_counts
from shared.prompts import decode_answer, end_token_id
from shared.reward_models import KIND as REWARD_MODELS
from shared.s3 import ArtifactStore
from shared.s3.bases import cached_base
from shared.telemetry import get_logger

log = get_logger(__name__)


def run_job(job: JobFile, store: ArtifactStore, cache_dir: Path, clock: Clock) -> None:
    """Make every measurement of `job`, and write predictions and result to its output folder.

    Raises:
        PermanentError: the same job would fail the same way again.
        TemporaryError: S3 did not answer; another attempt may go better.
    """
    started = monotonic()
    manifest = store.manifest(job.candidate.uri)
    measure = compare if manifest is not None and manifest.kind == REWARD_MODELS else _answers
    with tempfile.TemporaryDirectory(prefix="tuneloop-evaluation-") as scratch:
        measurements, lines = measure(job, store, cache_dir, Path(scratch), clock)
    predictions = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    store.put_bytes(job.output + PREDICTIONS, predictions.encode(), content_type="application/x-ndjson")
    result = Result(measurements=measurements, seconds=monotonic() - started)
    store.put_bytes(job.output + RESULT, result.model_dump_json().encode(), content_type="application/json")
    log.info("evaluated", evaluation=job.evaluation_id, seconds=round(result.seconds, 1))


def _answers(
    job: JobFile, store: ArtifactStore, cache_dir: Path, scratch: Path, clock: Clock
) -> tuple[list[Measurement], list[dict[str, Any]]]:
    """The measurements of models that answer, and a line for each row."""
    bench = Bench(job, store, cache_dir, scratch)
    progress = ProgressWriter(
        store, job.output, total=sum(len(bench.rows[target.on]) for target in job.targets), clock=clock
    )
    scores = {target: _scores(bench, target, progress) for target in job.targets}
    judge = judge_of(job, store, cache_dir, scratch)
    measurements = [
        Measurement(
            subject=target.subject, on=target.on, rows=len(rows),
            metrics=metrics(rows) | reward(judge, bench.rows[target.on], rows, batch_size=job.batch_size),
            outputs=_outputs([row for row in rows if not row.note]),
        )
        for target, rows in scores.items()
    ]
    return measurements, _predictions(scores)


class Bench:
    """Everything that measuring needs, fetched and checked; the models only when one must be asked."""

    def __init__(self, job: JobFile, store: ArtifactStore, cache_dir: Path, scratch: Path) -> None:
        self.job, self.store = job, store
        self._scratch = scratch
        # Checked before anything is measured, so that a damaged adapter fails at once and by its name.
        self._adapters: dict[Subject, ArtifactRef] = {"candidate": job.candidate}
        if job.production is not None:
            self._adapters["production"] = job.production.artifact
        for subject, ref in self._adapters.items():
            store.get_dir(ref, scratch / subject)
        self._base = cached_base(store, job.base, cache_dir)
        self.tokenizer = AutoTokenizer.from_pretrained(self._base, local_files_only=True, trust_remote_code=False)
        self.rows = {on: self._prepare(dataset) for on, dataset in self._datasets().items()}

    @property
    def limits(self) -> Limits:
        """How answers are generated."""
        return Limits(
            end=end_token_id(self.tokenizer), max_new_tokens=self.job.max_new_tokens, batch_size=self.job.batch_size
        )

    @cached_property
    def subjects(self) -> Subjects:
        """The models, with the adapters attached and checked."""
        probes = [row.probe for row in self.rows["heldout"] if row.probe is not None]
        if not probes:
            raise InvalidInputError(
                f"no test row of {self.job.dataset.dataset_id} fits the base model; the first one "
                f"{self.rows['heldout'][0].note}"
            )
        subjects = Subjects(self._base, probes)
        for subject, ref in self._adapters.items():
            subjects.attach(subject, self._scratch / subject, name=f"the {subject}'s adapter {ref.uri}")
        return subjects

    def _datasets(self) -> dict[Rows, DatasetRef]:
        datasets: dict[Rows, DatasetRef] = {"heldout": self.job.dataset}
        if self.job.production is not None:
            datasets["production_heldout"] = self.job.production.dataset
        return datasets

    def _prepare(self, dataset: DatasetRef) -> list[Row]:
        rows = choose(fetch_test_split(self.store, dataset, self._scratch), self.job.max_rows)
        config: Any = AutoConfig.from_pretrained(self._base, local_files_only=True, trust_remote_code=False)
        return prepare(
            self.tokenizer, rows, context=config.max_position_embeddings, max_new_tokens=self.job.max_new_tokens
        )


def _scores(bench: Bench, target: Target, progress: ProgressWriter) -> list[RowScore]:
    """One measurement's rows, from the cache where it was made before."""
    progress.start(f"{target.subject} on {target.on}")
    key = cache.cache_key(bench.job, target)
    rows = bench.rows[target.on]
    known = None if bench.job.fresh else cache.load(bench.store, key)
    if known is not None and [row.id for row in known] == [row.id for row in rows]:
        progress.advance(len(rows))
        return known
    with bench.subjects.active(target.subject) as model:
        scores = _ask(model, bench, rows, progress)
    cache.save(bench.store, key, scores)
    return scores


def _ask(model: Any, bench: Bench, rows: Sequence[Row], progress: ProgressWriter) -> list[RowScore]:
    examples = {row.id: row.example for row in rows if row.example is not None}
    scored = dict(zip(examples, score(model, list(examples.values()), bench.limits, progress.advance), strict=True))
    return [
        _read(model, row, progress) if row.windows else _answered(bench, row, scored.get(row.id)) for row in rows
    ]


def _answered(bench: Bench, row: Row, scored: Scored | None) -> RowScore:
    if scored is None:
        return RowScore(
            id=row.id, expected=row.expected, task=row.task, note=row.note, predicted="", nats=0.0, tokens=0
        )
    return RowScore(
        id=row.id, expected=row.expected, task=row.task, predicted=decode_answer(bench.tokenizer, scored.generated),
        nats=scored.nats, tokens=scored.tokens, bytes=len(row.expected.encode()), surprisal=scored.surprisal,
    )


def _read(model: Any, row: Row, progress: ProgressWriter) -> RowScore:
    """A text, which is only read. It is long, and in the dataset: the report need not repeat it."""
    nats = nats_of(model, row.windows)
    progress.advance(1)
    tokens = sum(len(window) - 1 for window in row.windows)
    return RowScore(id=row.id, expected="", predicted=None, nats=nats, tokens=tokens, bytes=len(row.expected.encode()))


def _outputs(answered: Sequence[RowScore]) -> list[OutputCounts]:
    """What the answers look like. A model that is broken may have no finite surprisal: then there is none at all."""
    answers = [row.predicted for row in answered if row.predicted is not None]
    surprisals = [row.surprisal for row in answered if row.predicted is not None]
    finite = all(math.isfinite(value) for value in surprisals)
    return output_counts(answers, surprisals if finite else ())


def _predictions(scores: Mapping[Target, Sequence[RowScore]]) -> list[dict[str, Any]]:
    """One line a row: what was expected and what each subject said; of a text, how well each predicts it."""
    lines: dict[tuple[Rows, str], dict[str, Any]] = {}
    for target, rows in scores.items():
        for row in rows:
            line = lines.setdefault(
                (target.on, row.id), {"on": target.on, "id": row.id, "expected": row.expected, "predicted": {}}
            )
            if row.predicted is None:
                line.setdefault("bits_per_byte", {})[target.subject] = metrics([row])["bits_per_byte"]
            else:
                line["predicted"][target.subject] = row.predicted
            if row.note:
                line["note"] = row.note
    return list(lines.values())

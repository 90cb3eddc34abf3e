"""Shows rows as the trainer tokenises them: ``python -m services.trainer.preview < request.json > preview.json``.

A process of its own, so that whoever asks (the command line, for one) needs no tokenizer. It uses the functions that
the training job uses, and of a base model in S3 fetches all files but the weights.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.trainer.job.base import shape_for
from services.trainer.job.lengths import WHOLE, lengths_in
from services.trainer.job.masks import Mask, check_ends, count_ends, masks_of
from services.trainer.job.rows import Record, read_rows, reader
from services.trainer.job.settle import Given, Settled, settle
from shared.errors import InvalidInputError, NotFoundError, TuneloopError
from shared.prompts import Tokenizer, end_token_id, template_sha256
from shared.recipe import RL, TrainingRecipe
from shared.s3 import ArtifactStore, connect_store
from shared.settings import S3Settings

COUNTED = 10_000
"""Rows that are counted; more would keep a person waiting."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")

Kind = Literal["context", "trained", "end", "cut"]


class Request(BaseModel):
    """What to show.

    Attributes:
        base_folder: of the base model here; or `base_model`, its name in S3.
        rows_folder: of a dataset version's splits here; or `dataset`, its address in S3.
        shown: the first so many rows are shown, the others counted.
    """

    model_config = ConfigDict(extra="forbid")

    recipe: TrainingRecipe
    base_folder: Path | None = None
    base_model: str | None = None
    rows_folder: Path | None = None
    dataset: str | None = None
    split: Literal["train", "validation"] = "train"
    shown: int = 3

    @model_validator(mode="after")
    def _one_of_each(self) -> "Request":
        if (self.base_folder is None) == (self.base_model is None):
            raise ValueError("give either base_folder or base_model")
        if (self.rows_folder is None) == (self.dataset is None):
            raise ValueError("give either rows_folder or dataset")
        return self


class Token(BaseModel):
    """One token: ``context`` is read, ``trained`` counts in the loss, ``end`` does so and ends the answer, and ``cut``
    lies beyond `max_length`. A character of several tokens is the text of its last one.
    """

    id: int
    text: str
    kind: Kind


class AnswerTokens(BaseModel):
    """One of a row's sequences, with its counts."""

    name: str
    tokens: list[Token]
    trained: int
    cut: int


class Row(BaseModel):
    """A row, by its number from 1; ``skipped`` where nothing of its answer is left to train."""

    number: int
    skipped: bool
    sequences: list[AnswerTokens]


class Counts(BaseModel):
    """Of the rows that were looked at: how many are skipped, cut, and trained with their end; tokens of those used."""

    rows: int
    skipped: int
    cut: int
    with_end: int
    tokens: int
    trained_tokens: int
    longest: int


class Preview(BaseModel):
    """The answer. `refusal` is what a run on these rows would end with, and empty where it would go on.

    Attributes:
        chosen: what the recipe leaves open, by its key: what a run would choose, and why.
    """

    objective: str
    max_length: int
    end_token: str
    chat_template_sha256: str
    counts: Counts
    refusal: str
    rows: list[Row]
    chosen: dict[str, str] = Field(default_factory=dict)


def main() -> int:
    """Answer one question; the exit code. What is wrong is said on stderr."""
    try:
        request = Request.model_validate_json(sys.stdin.buffer.read())
        with _folders(request) as (base, folder):
            tokenizer = load_tokenizer(base)
            settled = settled_for(request.recipe, tokenizer, base, folder / "train.parquet")
            answer = preview(
                request.model_copy(update={"recipe": settled.recipe}), tokenizer,
                read_rows(folder / f"{request.split}.parquet", request.recipe.objective)[:COUNTED], settled.chosen,
            )
    except (ValidationError, TuneloopError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(answer.model_dump_json() + "\n")
    return 0


def settled_for(recipe: TrainingRecipe, tokenizer: Tokenizer, base: Path, train: Path) -> Settled:
    """With what a run on these rows would choose, if all of it fitted into its memory; by the rows that are counted.

    Args:
        base: the base model's folder.
        train: the rows to train on.

    Raises:
        InvalidInputError: something is left open, and the base model is of a family that the estimator does not know.
    """
    shape = shape_for(base, recipe) if recipe.auto else None
    if shape is None:
        return Settled(recipe=recipe)
    lengths = lengths_in(train, tokenizer, recipe, most=COUNTED)
    return settle(recipe, Given(shape, pq.read_metadata(train).num_rows, machine=None, lengths=lengths))


def preview(
    request: Request, tokenizer: Tokenizer, rows: Sequence[Record], chosen: Mapping[str, str] = MappingProxyType({})
) -> Preview:
    """The rows as the job would train on them.

    Args:
        chosen: what was left open, where the request's recipe is what became of it.

    Raises:
        InvalidInputError: there are none, or the tokenizer cannot render one.
    """
    if request.recipe.objective == "pretrain":
        raise InvalidInputError("there is no mask to show: objective: pretrain trains every token of each text")
    if request.recipe.objective in RL:
        raise InvalidInputError(
            f"there is no mask to show: objective: {request.recipe.objective} trains answers that it draws itself"
        )
    if not rows:
        raise InvalidInputError(f"there are no {request.split} rows to show")
    recipe, end = request.recipe, end_token_id(tokenizer)
    read, read_whole = reader(recipe, tokenizer), reader(recipe.model_copy(update={"max_length": WHOLE}), tokenizer)
    records: list[Record] = []
    shown: list[Row] = []
    counts = dict.fromkeys(Counts.model_fields, 0) | {"rows": len(rows)}
    for number, row in enumerate(rows, 1):
        record, whole = read(row), [] if (made := read_whole(row)) is None else masks_of(made)
        kept = [] if record is None else masks_of(record)
        counts["skipped"] += record is None
        counts["cut"] += any(len(mask.ids) > recipe.max_length for mask in whole)
        counts["longest"] = max([counts["longest"], *(len(mask.ids) for mask in whole)])
        counts["tokens"] += sum(len(mask.ids) for mask in kept)
        counts["trained_tokens"] += sum(sum(mask.trained) for mask in kept)
        if record is not None:
            records.append(record)
        if number <= request.shown:
            sequences = [_shown(mask, recipe.max_length, end, tokenizer) for mask in whole]
            shown.append(Row(number=number, skipped=record is None, sequences=sequences))
    counts["with_end"] = count_ends(records, tokenizer).trained
    return Preview(
        objective=recipe.objective, max_length=recipe.max_length, end_token=tokenizer.convert_ids_to_tokens(end),
        chat_template_sha256=template_sha256(tokenizer), counts=Counts(**counts), rows=shown,
        refusal=_refusal(records, tokenizer, recipe), chosen=dict(chosen),
    )


def _refusal(records: Sequence[Record], tokenizer: Tokenizer, recipe: TrainingRecipe) -> str:
    if not records:
        return (f"no row has its answer within {recipe.max_length} tokens; raise training.maxLength, or shorten the "
                "prompts")
    try:
        check_ends(count_ends(records, tokenizer), recipe.max_length)
    except InvalidInputError as error:
        return str(error)
    return ""


def _shown(mask: Mask, max_length: int, end: int, tokenizer: Tokenizer) -> AnswerTokens:
    last = len(mask.ids) - 1
    kinds: list[Kind] = [
        "cut" if index >= max_length else "context" if not trained else "end" if (index, token) == (last, end)
        else "trained"
        for index, (token, trained) in enumerate(zip(mask.ids, mask.trained, strict=True))
    ]
    tokens = [Token(id=token, text=text, kind=kind)
              for token, text, kind in zip(mask.ids, texts_of(mask.ids, tokenizer), kinds, strict=True)]
    trained = kinds.count("trained") + kinds.count("end")
    return AnswerTokens(name=mask.name, tokens=tokens, trained=trained, cut=kinds.count("cut"))


def texts_of(ids: Sequence[int], tokenizer: Tokenizer) -> Iterator[str]:
    """What each token adds to the text; nothing for the first parts of a character that is made of several tokens."""
    start = 0
    for index in range(len(ids)):
        text = str(tokenizer.decode(ids[start : index + 1], skip_special_tokens=False))
        whole = not text.endswith("\ufffd") or index + 1 == len(ids)
        yield text if whole else ""
        start = index + 1 if whole else start


def load_tokenizer(base: Path) -> Tokenizer:
    """The tokenizer in a base model's folder.

    Raises:
        InvalidInputError: there is none.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        return AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{base} holds no tokenizer that can be read: {error}") from error


@contextmanager
def _folders(request: Request) -> Iterator[tuple[Path, Path]]:
    """Where the tokenizer and the rows are, fetched where they are not here."""
    if request.base_folder is not None and request.rows_folder is not None:
        yield request.base_folder, request.rows_folder
        return
    with tempfile.TemporaryDirectory(prefix="tuneloop-preview-") as scratch, connect_store(S3Settings()) as store:
        base = request.base_folder or _fetch_base(store, str(request.base_model), Path(scratch) / "base")
        splits = sorted({request.split, "train"} if request.recipe.auto else {request.split})
        rows = request.rows_folder or _fetch(store, str(request.dataset), [f"{split}.parquet" for split in splits],
                                             Path(scratch) / "rows")
        yield base, rows


def _fetch_base(store: ArtifactStore, name: str, target: Path) -> Path:
    uri = f"s3://{store.bucket}/base-models/{name}/"
    manifest = store.manifest(uri)
    if manifest is None:
        raise NotFoundError(f"the base model {name} is not in S3: there is no {uri}manifest.json")
    return _fetch(store, uri, [file.path for file in manifest.files if not file.path.endswith(_WEIGHTS)], target)


def _fetch(store: ArtifactStore, uri: str, names: Sequence[str], target: Path) -> Path:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(store.get_bytes(f"{uri.rstrip('/')}/{name}"))
    return target


if __name__ == "__main__":
    sys.exit(main())

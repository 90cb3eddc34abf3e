"""Texts as rows for continued pre-training: one stream of tokens, cut into windows of the same length."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from shared.documents import document_ids, windows
from shared.prompts import IGNORED_LABEL, Tokenizer, end_token_id

# Texts that are tokenized at once, by all cores.
_TEXTS = 256
# All of a dataset's tokens are in memory, so each must be small.
_IDS = pa.list_(pa.int32())


def load_windows(file: Path, tokenizer: Tokenizer, length: int) -> Dataset:
    """The texts of a dataset version's split as windows of `length` tokens.

    An end token stands before the first text and after each one, and is learned like any other token. Texts follow
    each other in a window as in the stream, and are not hidden from each other: models are pre-trained that way, and
    learn from the end token that what follows is another text.
    """
    end = end_token_id(tokenizer)
    cut = windows(_documents(file, tokenizer, end), start=end, length=length)
    ids = [np.array(window, np.int32) for window in cut]
    labels = [np.concatenate(([np.int32(IGNORED_LABEL)], window[1:])) for window in ids]
    return Dataset(pa.table({"input_ids": pa.array(ids, _IDS), "labels": pa.array(labels, _IDS)}))


def _documents(file: Path, tokenizer: Tokenizer, end: int) -> Iterator[list[int]]:
    for batch in pq.ParquetFile(file).iter_batches(batch_size=_TEXTS, columns=["text"]):
        for ids in document_ids(tokenizer, batch.column("text").to_pylist()):
            # Some tokenizers write the end themselves.
            yield ids if ids[-1:] == [end] else [*ids, end]

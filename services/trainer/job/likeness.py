"""Rows that repeat each other: within the training rows, and between these and the test rows.

data_ingest leaves out exact repeats and never splits a prompt over two splits. What differs in case, punctuation or a
few words gets past both, and makes an evaluation look better than the model is.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

_WORD = re.compile(r"\w+")
GRAM = 3
"""Words. Shorter ones are shared by any two texts of one subject."""
ALIKE = 0.8
"""Jaccard similarity of two prompts' word triples from which they are the same question; as usual for near duplicates
(Lee et al., arXiv 2107.06499)."""
MOST_TESTS, MOST_TRAINS = 2_000, 100_000
"""Rows that are looked at, so that a run begins in seconds whatever its size."""


@dataclass(frozen=True)
class Likeness:
    """Training rows that repeat an earlier one, and test rows that repeat a training row, of those looked at."""

    repeated: int
    contaminated: int
    tests: int

    @property
    def metrics(self) -> dict[str, float]:
        """As a run tells it."""
        return {"repeated_rows": self.repeated, "contaminated_rows": self.contaminated, "compared_rows": self.tests}


def likeness_of(folder: Path) -> Likeness | None:
    """That of a dataset version's folder; None where its rows are no conversations."""
    train, test = (_conversations(folder / f"{name}.parquet", most)
                   for name, most in (("train", MOST_TRAINS), ("test", MOST_TESTS)))
    return None if train is None or test is None else likeness(train, test)


def likeness(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]]) -> Likeness:
    """How many rows, each a prompt and an answer, repeat each other up to case, punctuation and white space; prompts of
    test rows also up to a few words.
    """
    different = {(words_of(prompt), words_of(answer)) for prompt, answer in train}
    alike = contaminated((prompt for prompt, _ in train), [prompt for prompt, _ in test])
    return Likeness(len(train) - len(different), len(alike), len(test))


def _conversations(file: Path, most: int) -> list[tuple[str, str]] | None:
    """The prompt, without what the system said, and the answer of the first rows."""
    if "messages" not in pq.read_schema(file).names:
        return None
    rows = pq.read_table(file, columns=["messages"]).slice(0, most).column("messages").to_pylist()
    return [
        ("\n".join(message["content"] for message in row[:-1] if message["role"] != "system"), row[-1]["content"])
        for row in rows
    ]


def words_of(text: str) -> tuple[str, ...]:
    """A text's words in their order, without case."""
    return tuple(_WORD.findall(text.casefold()))


def contaminated(train: Iterable[str], test: Sequence[str]) -> set[int]:
    """Indexes of the test prompts that a training prompt repeats."""
    grams = [_grams(words_of(text)) for text in test]
    where: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, own in enumerate(grams):
        for gram in own:
            where[gram].append(index)
    found: set[int] = set()
    for text in train:
        theirs = _grams(words_of(text))
        shared = Counter(index for gram in theirs for index in where.get(gram, ()))
        for index, count in shared.items():
            if count >= ALIKE * (len(theirs) + len(grams[index]) - count):
                found.add(index)
    return found


def _grams(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Each run of `GRAM` words; of a shorter text, all of it."""
    return {words[start : start + GRAM] for start in range(max(1, len(words) - GRAM + 1))}

"""A dataset version's reference profile, ``profile.json``. Pure.

It is made of at most `SAMPLED_ROWS` rows, those with the smallest ids. Ids are digests, so that is a random draw which
the order of the rows does not change. More rows would hardly sharpen a comparison with a few hundred live samples.
"""

import heapq
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.events.common import Distribution
from shared.profiles.language import LANGUAGES, language_of
from shared.profiles.lengths import length_distribution
from shared.profiles.text import HASH_BUCKETS, ngram_bucket, word_bucket
from shared.profiles.topics import TopicModel, fit_topics

PROFILE_FILE = "profile.json"
PROFILE_VERSION: Literal[1] = 1
SAMPLED_ROWS = 5_000
INPUT_FEATURES = ("prompt_length", "words", "ngrams", "language", "topic")
_TOPIC_ROWS = 1_000
_EXAMPLES = 256
_TEXT_CHARACTERS = 2_000
Messages = Sequence[tuple[str, str]]


class ReferenceProfile(BaseModel):
    """What a dataset's rows look like.

    Attributes:
        rows: how many rows the counts are of.
        features: counts in buckets. ``prompt_length`` is the characters of all messages before the answer;
            ``answer_length`` those of the rows' own answers; the others are of the last message of the user.
        topics: what ``topic`` counts.
        examples: last messages of some users, cut to 2,000 characters, for comparing embeddings.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = PROFILE_VERSION
    rows: int
    features: dict[str, Distribution]
    topics: TopicModel = Field(default_factory=TopicModel)
    examples: list[str] = Field(default_factory=list)

    def place(self, messages: Messages) -> dict[str, int]:
        """The bucket of a conversation, without its answer, for each input feature that the profile has."""
        text = last_question(messages)
        places = {
            "prompt_length": self.features["prompt_length"].place(_length(messages)), "words": word_bucket(text),
            "ngrams": ngram_bucket(text), "language": LANGUAGES.index(language_of(text)),
            "topic": self.topics.place(text),
        }
        return {feature: place for feature, place in places.items() if feature in self.features}


class ProfileBuilder:
    """Takes a dataset's rows one by one, in bounded memory."""

    def __init__(self, rows: int = SAMPLED_ROWS) -> None:
        self._rows = rows
        # The largest id on top, negated, so that a smaller one can replace it.
        self._kept: list[tuple[int, int, int, str]] = []

    def add(self, row_id: str, messages: Messages) -> None:
        """Take a row.

        Args:
            row_id: a digest in hex, unique.
            messages: role and content; the last one is the answer.
        """
        key = -int(row_id, 16)
        if len(self._kept) >= self._rows and key <= self._kept[0][0]:
            return
        prompt, answer = messages[:-1], messages[-1][1]
        item = (key, _length(prompt), len(answer), last_question(prompt))
        if len(self._kept) < self._rows:
            heapq.heappush(self._kept, item)
        else:
            heapq.heapreplace(self._kept, item)

    def build(self) -> ReferenceProfile | None:
        """The profile; None where no row was taken."""
        kept = sorted(self._kept, reverse=True)
        if not kept:
            return None
        texts = [text for _, _, _, text in kept]
        topics = fit_topics(texts[:_TOPIC_ROWS])
        buckets = [f"#{number}" for number in range(HASH_BUCKETS)]
        return ReferenceProfile(
            rows=len(kept),
            features={
                "prompt_length": length_distribution([length for _, length, _, _ in kept]),
                "answer_length": length_distribution([length for _, _, length, _ in kept]),
                "words": _counted(buckets, [word_bucket(text) for text in texts]),
                "ngrams": _counted(buckets, [ngram_bucket(text) for text in texts]),
                "language": _counted(list(LANGUAGES), [LANGUAGES.index(language_of(text)) for text in texts]),
                "topic": _counted(topics.labels, [topics.place(text) for text in texts]),
            },
            topics=topics, examples=texts[:_EXAMPLES],
        )


def last_question(messages: Messages) -> str:
    """The last message of the user, or the last message of all, cut to 2,000 characters."""
    for role, content in reversed(messages):
        if role == "user":
            return content[:_TEXT_CHARACTERS]
    return messages[-1][1][:_TEXT_CHARACTERS] if messages else ""


def _length(messages: Messages) -> int:
    return sum(len(content) for _, content in messages)


def _counted(labels: list[str], places: Sequence[int]) -> Distribution:
    counts = [0] * len(labels)
    for place in places:
        counts[place] += 1
    return Distribution(labels=labels, counts=counts)

"""Topics: spherical k-means (Dhillon & Modha 2001) over hashed words. Pure, without chance, no dependency.

Each text is the set of its words in hashed buckets, without those of more than `_COMMON` of the texts and those of only
one. The first centres are texts, drawn as in k-means++ with hashes for dice; then a few rounds of Lloyd. All sums are
made in a fixed order in double precision, so the same texts give the same topics to the bit.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from shared.profiles.text import hash_bucket, words

TOPICS = 8
_BUCKETS = 512
_ROUNDS = 8
_COMMON = 0.5
_DIGITS = 4
_DICE = 1_000_003
_ALIKE = 1e-9
_READ_CHARACTERS = 2_000
Vector: TypeAlias = dict[int, float]


class TopicModel(BaseModel):
    """Where the topics are.

    Attributes:
        used: buckets of words that some texts have and others do not.
        centres: unit vectors, as weight by bucket.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    used: list[int] = Field(default_factory=list)
    centres: list[dict[int, float]] = Field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """Names of the topics; the last is for texts that have no word in common with any."""
        return [*(f"topic {number}" for number in range(1, len(self.centres) + 1)), "none"]

    def place(self, text: str) -> int:
        """The topic of a text, as a place in `labels`."""
        vector = _vector(_word_set(text), frozenset(self.used))
        likeness = [_dot(vector, centre) for centre in self.centres]
        best = max(likeness, default=0.0)
        return likeness.index(best) if best > 0 else len(self.centres)


def fit_topics(texts: Sequence[str]) -> TopicModel:
    """At most `TOPICS` topics of these texts; fewer where they have less variety."""
    sets = [_word_set(text) for text in texts]
    frequency: Counter[int] = Counter()
    for members in sets:
        frequency.update(members)
    used = frozenset(bucket for bucket, count in frequency.items() if 1 < count <= _COMMON * len(sets))
    vectors = [vector for vector in (_vector(members, used) for members in sets) if vector]
    centres = _first_centres(vectors)
    for _ in range(_ROUNDS):
        groups: list[list[Vector]] = [[] for _ in centres]
        for vector in vectors:
            likeness = [_dot(vector, centre) for centre in centres]
            groups[likeness.index(max(likeness))].append(vector)
        centres = [_mean(group) if group else centre for group, centre in zip(groups, centres, strict=True)]
    rounded = [{bucket: round(weight, _DIGITS) for bucket, weight in sorted(centre.items())} for centre in centres]
    kept = [{bucket: weight for bucket, weight in centre.items() if weight} for centre in rounded]
    return TopicModel(used=sorted(used), centres=kept)


def _first_centres(vectors: Sequence[Vector]) -> list[Vector]:
    if not vectors:
        return []
    centres = [vectors[0]]
    distance = [1 - _dot(vector, centres[0]) for vector in vectors]
    while len(centres) < TOPICS:
        total = math.fsum(distance)
        if total < _ALIKE:
            break
        # A text is drawn with a chance in proportion to its distance from the centres that there are.
        mark = total * hash_bucket(f"centre {len(centres)}", _DICE) / _DICE
        drawn = next(place for place, sum_ in enumerate(accumulate(distance)) if sum_ > mark)
        centres.append(vectors[drawn])
        distance = [
            max(0.0, min(far, 1 - _dot(vector, centres[-1]))) for far, vector in zip(distance, vectors, strict=True)
        ]
    return centres


def _word_set(text: str) -> list[int]:
    return sorted({hash_bucket(word, _BUCKETS) for word in words(text[:_READ_CHARACTERS])})


def _vector(members: Sequence[int], used: frozenset[int]) -> Vector:
    kept = [bucket for bucket in members if bucket in used]
    return {bucket: 1 / math.sqrt(len(kept)) for bucket in kept}


def _dot(vector: Vector, centre: Vector) -> float:
    return math.fsum(weight * centre.get(bucket, 0.0) for bucket, weight in vector.items())


def _mean(group: Sequence[Vector]) -> Vector:
    total: Vector = {}
    for vector in group:
        for bucket, weight in vector.items():
            total[bucket] = total.get(bucket, 0.0) + weight
    length = math.sqrt(math.fsum(weight * weight for weight in total.values()))
    return {bucket: weight / length for bucket, weight in total.items()}

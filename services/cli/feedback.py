"""From what was sampled and what people thought of it to a list for review and to rows of a dataset. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from shared.events import Event, FeedbackReceived, InferenceSampled


@dataclass(frozen=True)
class Judged:
    """An answer that somebody judged.

    Attributes:
        model_version: that answered; ``base`` for the bare base model.
        score: mean over those who judged it, from -1 to 1.
        correction: the newest that is not empty; empty where nobody wrote one.
        comments: those that are not empty, the newest first.
        sample: the conversation; None where the request was not among those that are sampled.
    """

    request_id: str
    route: str
    model_version: str
    score: float
    correction: str
    comments: tuple[str, ...]
    sample: InferenceSampled | None


@dataclass
class Collected:
    """The events of two topics, as they come: repeated ones, and each key's in their order."""

    samples: dict[str, InferenceSampled] = field(default_factory=dict)
    words: dict[str, dict[str, Event[FeedbackReceived]]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, event: Event[Any]) -> None:
        """Note a sample, or a word, which replaces the same key's former one."""
        if isinstance(event.data, InferenceSampled):
            self.samples[event.data.request_id] = event.data
        elif isinstance(event.data, FeedbackReceived):
            of_request = self.words[event.data.request_id]
            former = of_request.get(event.data.key)
            if former is None or former.time <= event.time:
                of_request[event.data.key] = event

    def judged(self, route: str | None = None) -> list[Judged]:
        """All judged answers, of one route or of all; those that were judged last come first."""
        found = []
        for request_id, by_key in self.words.items():
            newest = sorted(by_key.values(), key=lambda event: event.time, reverse=True)
            said = [event.data for event in newest]
            if route is None or said[0].route == route:
                found.append((newest[0].time, Judged(
                    request_id=request_id, route=said[0].route, model_version=said[0].model_version or "base",
                    score=mean(word.score for word in said),
                    correction=next((word.correction for word in said if word.correction), ""),
                    comments=tuple(word.comment for word in said if word.comment),
                    sample=self.samples.get(request_id),
                )))
        return [one for _, one in sorted(found, key=lambda pair: pair[0], reverse=True)]


def dataset_rows(judged: Iterable[Judged], *, min_score: float) -> Iterator[dict[str, Any]]:
    """Chat rows to train on: the correction where there is one, else an answer that was liked.

    Args:
        min_score: answers without a correction are taken from this score on.
    """
    for one in judged:
        if one.sample is None or not (one.correction or one.score >= min_score):
            continue
        answer = one.correction or one.sample.answer
        asked = [{"role": role, "content": content} for role, content in one.sample.asked]
        yield {"messages": [*asked, {"role": "assistant", "content": answer}]}

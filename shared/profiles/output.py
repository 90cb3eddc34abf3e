"""What answers look like: how long they are, whether they refuse, and how sure the model was. Pure."""

import re
from collections.abc import Mapping, Sequence

from shared.events.common import Distribution
from shared.events.evaluation import OutputCounts
from shared.profiles.lengths import length_distribution, value_distribution

OUTPUT_FEATURES = ("answer_length", "refusals", "surprisal")
_REFUSAL_LABELS = ["answered", "refused"]
# Refusals begin with one; further on, the same words are often a part of a real answer.
_HEAD_CHARACTERS = 200
_REFUSAL = re.compile(
    r"\b(i('m| am) (very )?sorry,? (but )?(i|we) (can(no|')t|am (not able|unable))"
    r"|i (can(no|')t|am (not able|unable) to|won't) (help|assist|answer|provide|comply|do that|fulfill)"
    r"|as an ai( language)?( model)?,? i"
    r"|(ich kann|kann ich) (ihnen |dir )?(dabei |damit )?(leider )?nicht (helfen|weiterhelfen)"
    r"|je ne peux pas|lo siento,? (pero )?no puedo|mi dispiace,? (ma )?non posso|desculpe,? (mas )?não posso)",
    re.IGNORECASE,
)


def refuses(answer: str) -> bool:
    """Whether an answer begins as refusals do, in a few languages. Made for shares, not for judging one answer."""
    return _REFUSAL.search(answer[:_HEAD_CHARACTERS].replace("\u2019", "'")) is not None


def output_counts(answers: Sequence[str], surprisals: Sequence[float] = ()) -> list[OutputCounts]:
    """The reference that an evaluation gives: a model's answers to held-out rows; empty where there are none.

    Args:
        surprisals: mean negative log-probability of each answer's tokens, in nats; may be missing.
    """
    if not answers:
        return []
    refused = sum(refuses(answer) for answer in answers)
    lengths = length_distribution([len(answer) for answer in answers])
    return [
        OutputCounts(feature="answer_length", **lengths.model_dump()),
        OutputCounts(feature="refusals", labels=_REFUSAL_LABELS, counts=[len(answers) - refused, refused]),
        *([OutputCounts(feature="surprisal", **value_distribution(surprisals).model_dump())] if surprisals else []),
    ]


def place_answer(answer: str, surprisal: float | None, reference: Mapping[str, Distribution]) -> dict[str, int]:
    """The bucket of an answer for each output feature that it and the reference have."""
    places = {}
    if "answer_length" in reference:
        places["answer_length"] = reference["answer_length"].place(len(answer))
    if "refusals" in reference:
        places["refusals"] = int(refuses(answer))
    if "surprisal" in reference and surprisal is not None:
        places["surprisal"] = reference["surprisal"].place(surprisal)
    return places

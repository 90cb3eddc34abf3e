"""The demo's data: questions to a shop's support, each with one of six intents.

Made here, so that the demo needs no download and its right answers are known. Every prompt is distinct: a phrase of
its intent with slots, between an opening and a closing that say nothing about the intent.
"""

import random
from typing import Any, Literal

Kind = Literal["good", "shifted", "fresh"]

SYSTEM_PROMPT = "Answer with the intent."

PHRASES: dict[str, tuple[str, ...]] = {
    "card_lost": (
        "I lost my card {where}",
        "my card was stolen {where}",
        "my wallet with the card is gone since {day}",
        "please block my card, I cannot find it since {day}",
        "I think I left my bank card {where}",
        "someone took my card {where} on {day}",
    ),
    "refund_status": (
        "where is my refund for the {item}",
        "I sent the {item} back on {day} and still have no money",
        "has the refund for the {item} been paid out",
        "how long does it take to get the money back for a returned {item}",
        "you promised to pay back the {item} by {day}",
        "is my money for the {item} on its way back to me",
    ),
    "change_address": (
        "I moved to {city}, please update my address",
        "my new address is in {city}",
        "how do I change the delivery address to {city}",
        "we are moving to {city} on {day}, what about our address",
        "please send everything to my new home in {city}",
        "the street in my profile is wrong, I live in {city} now",
    ),
    "cancel_order": (
        "please cancel my order of the {item}",
        "I do not want the {item} that I ordered on {day} any more",
        "can I still cancel the {item} from {day}",
        "stop the order of the {item} before it ships",
        "I ordered the {item} by mistake, take it off",
        "I changed my mind about the {item}, do not ship it",
    ),
    "login_problem": (
        "I cannot log in on my {device} since {day}",
        "my password does not work on the {device}",
        "the reset code for my account never came on {day}",
        "the app on my {device} says wrong password",
        "my account is locked since {day}",
        "signing in on the {device} fails each time",
    ),
    "invoice_copy": (
        "please send me the invoice for the {item} again",
        "I need a copy of the bill for the {item}",
        "where can I download the invoice from {day}",
        "my accountant wants the receipt for the {item}",
        "the invoice for the {item} is missing in my mail",
        "can I get the bill of {day} as a PDF",
    ),
}

SLOTS: dict[str, tuple[str, ...]] = {
    "where": (
        "on the bus", "at the airport", "in a taxi", "at the gym", "in a cafe", "on the train", "at the beach",
        "in the park", "at work", "in a shop", "at the station", "in the hotel",
    ),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "yesterday", "last week"),
    "item": (
        "lamp", "jacket", "phone", "chair", "blue shirt", "coffee maker", "bike helmet", "desk", "headphones", "tent",
        "backpack", "rice cooker", "red shoes", "keyboard",
    ),
    "city": (
        "Berlin", "Lyon", "Oslo", "Madrid", "Porto", "Vienna", "Dublin", "Ghent", "Turin", "Krakow", "Malmo", "Basel",
    ),
    "device": ("phone", "laptop", "tablet", "computer", "TV", "watch"),
}

OPENINGS = ("", "Hello, ", "Hi there, ", "Good morning, ", "Excuse me, ", "One question: ", "Dear team, ")
CLOSINGS = ("", ", please help", ", thank you", ", what can I do", ", it is urgent", ", can you check")

INTENTS = tuple(PHRASES)


def make_rows(kind: Kind, n: int, seed: int) -> list[dict[str, Any]]:
    """`n` chat rows with distinct prompts and as many of each intent as possible.

    Args:
        kind: ``good`` and ``fresh`` have right labels, drawn apart from each other for the same seed. ``shifted``
            has the prompts of ``good`` with each label replaced by the next one, everywhere in the same way: it can
            be learned, and its own held-out rows look fine, but it is wrong about what production gets right.
        n: at most a few thousand; refused where the templates have no more distinct prompts to give.
        seed: the same seed gives the same rows.
    """
    stream = random.Random(f"{'fresh' if kind == 'fresh' else 'good'}:{seed}")  # noqa: S311 - demo data, not secrets
    seen: set[str] = set()
    rows = []
    for index in range(n):
        intent = INTENTS[index % len(INTENTS)]
        label = INTENTS[(index + 1) % len(INTENTS)] if kind == "shifted" else intent
        rows.append(_row(_distinct_prompt(intent, stream, seen), label))
    stream.shuffle(rows)
    return rows


def _distinct_prompt(intent: str, stream: random.Random, seen: set[str]) -> str:
    for _ in range(1000):
        prompt = _prompt(intent, stream)
        if prompt not in seen:
            seen.add(prompt)
            return prompt
    raise ValueError(f"no more distinct prompts for {intent} after {len(seen)}; ask for fewer rows")


def _prompt(intent: str, stream: random.Random) -> str:
    phrase = stream.choice(PHRASES[intent])
    filled = phrase.format(**{slot: stream.choice(values) for slot, values in SLOTS.items()})
    text = stream.choice(OPENINGS) + filled + stream.choice(CLOSINGS)
    return text[0].upper() + text[1:] + stream.choice(".?!")


def _row(prompt: str, label: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": label},
        ]
    }

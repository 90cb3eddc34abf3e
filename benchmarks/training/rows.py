"""What is trained on: support tickets, each of one question or several, made here from the demo's questions.

Questions per ticket are drawn so that lengths differ as those of conversations do: many short ones and a few long.
"""

import random
from typing import Any

from services.cli.demo.data import SYSTEM_PROMPT, make_rows

_MOST_QUESTIONS = 12


def tickets(count: int, seed: int) -> list[dict[str, Any]]:
    """Chat rows; the answer names the intent of each question in order. The same seed gives the same rows."""
    draw = random.Random(seed)  # noqa: S311 - rows to train on, no secret
    sizes = [min(_MOST_QUESTIONS, max(1, round(draw.lognormvariate(0.6, 0.9)))) for _ in range(count)]
    questions = iter(make_rows("good", sum(sizes), seed))
    rows = []
    for size in sizes:
        asked = [next(questions)["messages"] for _ in range(size)]
        rows.append({"messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": "\n".join(messages[1]["content"] for messages in asked)},
            {"role": "assistant", "content": ", ".join(messages[2]["content"] for messages in asked)},
        ]})
    return rows


def intents(count: int, seed: int) -> list[dict[str, Any]]:
    """Chat rows of one question each, which are all about as long: the demo's."""
    return make_rows("good", count, seed)


KINDS = {"tickets": tickets, "intents": intents}

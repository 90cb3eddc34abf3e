"""Which split a row belongs to. Pure."""

import hashlib
from typing import Literal, TypeAlias, get_args

from shared.pipeline import DatasetRules

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def split_of(group: str, rules: DatasetRules) -> Split:
    """The split of a group of rows.

    It depends on the group, the salt and the shares alone: not on the other rows, nor on their order. So rows that
    are added to a dataset never move those that were there, and what was tested on is never trained on later.
    """
    digest = hashlib.blake2b(f"{rules.split_salt}\0{group}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest) / 2**64
    if position < rules.test_share:
        return "test"
    if position < rules.test_share + rules.validation_share:
        return "validation"
    return "train"

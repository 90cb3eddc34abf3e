"""The sticky split: which role serves a unit. Pure arithmetic, the same in every replica of the gateway.

A unit (a user, a session, an API key) is hashed with the route's salt to one of 10000 positions. The candidate owns the
positions below its weight, the control owns the highest ones, stable owns the rest. So a higher weight only ever adds
units to an arm and moves none away, and a new salt deals the positions anew.
"""

from hashlib import blake2b
from typing import Literal

POSITIONS = 10_000

Role = Literal["stable", "candidate", "control"]


def fingerprint(salt: str, unit: str) -> int:
    """64 bits that stand for a unit under a salt."""
    # A JSON string may hold lone surrogates, which are no reason to refuse a user.
    material = f"{salt}\0{unit}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(material, digest_size=8).digest(), "big")


def position(mark: int) -> int:
    """The position in [0, 10000) of a fingerprint. The bias of the modulo is below 1e-15."""
    return mark % POSITIONS


def pick(place: int, *, candidate: int, control: int = 0) -> Role:
    """The role that owns a position, for weights in basis points."""
    if place < candidate:
        return "candidate"
    if place >= POSITIONS - control:
        return "control"
    return "stable"

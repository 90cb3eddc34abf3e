"""Drawing requests by chance, but so that the same request is always drawn or never: by a hash of its id. Pure."""

from hashlib import blake2b

_RANGE = 2**64


def drawn(purpose: str, request_id: str, share: float) -> bool:
    """Whether a request is among the `share` (0.0 to 1.0) that is drawn for `purpose`.

    Each purpose draws for itself, or the requests that are shadowed would be those that are sampled.
    """
    material = f"{purpose}\0{request_id}".encode()
    return int.from_bytes(blake2b(material, digest_size=8).digest(), "big") < share * _RANGE

"""The error vocabulary of the whole system: two words for handlers, one for bad input at the door.

A handler raises `TemporaryError` when trying again later may help, and `PermanentError` when it cannot.
Anything else that escapes is treated as temporary, because a bug that is fixed by a deployment must not
have thrown events away.
"""

from datetime import timedelta


class TuneloopError(Exception):
    """Base of all errors that tuneloop raises on purpose. The message says what, where, and what to do."""


class TemporaryError(TuneloopError):
    """Trying again later may help: a dependency is down, or a fact has not arrived yet.

    Args:
        message: what was missing and where.
        delay: wait at least this long; the process loop chooses a backoff where it is None.
    """

    def __init__(self, message: str, *, delay: timedelta | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class PermanentError(TuneloopError):
    """Trying again cannot help. The event is set aside as dead, for a person to look at."""


class InvalidInputError(PermanentError):
    """What a person or a client gave us is wrong. APIs answer it as 422 with this message."""


class NotFoundError(PermanentError):
    """The named thing does not exist here. APIs answer it as 404 with this message."""


class ConflictError(PermanentError):
    """The request does not fit the present state. APIs answer it as 409 with this message."""


class IntegrityError(PermanentError):
    """Bytes do not match the digest that was promised for them."""

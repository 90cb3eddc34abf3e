"""Python's garbage collector in processes that live long."""

import gc

# What a request or a look makes is freed by its reference counts: to look for circles after every few hundred objects,
# as is the default, finds nothing. They are still found, a little later.
_THRESHOLD = 20_000


def leave_alone_what_stays() -> None:
    """Call it once a process has imported and built what it needs, which is never looked through again.

    Each full collection goes through all objects, most of which are modules, classes and settings: of the controller's
    processor time with 200 rollouts it was a fifth, and in the gateway a request waits for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_THRESHOLD)

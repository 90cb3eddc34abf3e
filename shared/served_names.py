"""What model servers and metrics call the versions behind a route.

A model version is served under its own name, ``route@number``. A control is the stable version once more, under a
second name: so it has counters and a prefix cache of its own, which begin as empty as the candidate's. The bare base
model has one name only on a model server, so as a control it has counters of its own and no cache; metrics call it
`BASE`.
"""

BASE = "base"
_CONTROL = "-control"
# Names that a model server may be told to load an adapter under.
SERVED_NAME = r"^[a-z0-9][a-z0-9-]*@[1-9][0-9]*(-control)?$"


def control_of(name: str) -> str:
    """The second name of a version that is the control: ``intents@3-control``, ``base-control``."""
    return f"{name}{_CONTROL}"


def version_of(name: str) -> str | None:
    """The model version that is served under a name, whichever of its two; None for the bare base model."""
    version = name.removesuffix(_CONTROL)
    return None if version == BASE else version

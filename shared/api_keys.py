"""API keys for the gateway: how one looks, and the file that lists them. `tuneloop keys new` makes them.

    keys:
      - id: app7
        sha256: 9f86d081884c7d65...        # of the whole key, `tl_app7_...`
        routes: [support-intents]          # exact names, or '*' alone for all
        requestsPerMinute: 600
        burst: 60
        expires: 2027-01-01T00:00:00Z      # absent: never

Only the hash is kept. Plain SHA-256 is right here, and a slow hash (bcrypt, argon2) would be wrong: slow hashes make
it expensive to guess words that people chose, but a secret of 256 random bits cannot be guessed at any speed, and a
slow hash on each request would be a door for denial of service. The comparison takes the same time wherever two
hashes differ.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import yaml
from pydantic import AwareDatetime, Field, ValidationError, field_serializer, model_validator

from shared.errors import InvalidInputError
from shared.spec_part import Slug, SpecPart
from shared.strict_yaml import load_yaml

ALL_ROUTES = "*"
SECRET_BYTES = 32
_ID = r"[a-z0-9]{1,32}"
_KEY = re.compile(rf"^tl_({_ID})_[A-Za-z0-9_-]{{43}}$".encode())


class ApiKey(SpecPart):
    """One key, as the file says it."""

    id: Annotated[str, Field(pattern=f"^{_ID}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    routes: frozenset[Slug | Annotated[str, Field(pattern=r"^\*$")]] = Field(min_length=1)
    requests_per_minute: float = Field(gt=0)
    burst: int = Field(ge=1)
    expires: AwareDatetime | None = None

    @model_validator(mode="after")
    def _all_means_all(self) -> "ApiKey":
        if ALL_ROUTES in self.routes and len(self.routes) > 1:
            raise ValueError("routes: '*' means all of them; leave out the names")
        return self

    @field_serializer("routes")
    def _in_order(self, routes: frozenset[str]) -> list[str]:
        return sorted(routes)

    def may_use(self, route: str) -> bool:
        """Whether the key is for this route."""
        return ALL_ROUTES in self.routes or route in self.routes

    def is_of(self, key: bytes) -> bool:
        """Whether this is the entry of a presented key."""
        return hmac.compare_digest(hashlib.sha256(key).hexdigest(), self.sha256)

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires


class _File(SpecPart):
    """The whole file."""

    keys: list[ApiKey]


@dataclass(frozen=True)
class KeyRing:
    """All keys by id."""

    keys: Mapping[str, ApiKey] = field(default_factory=dict)

    def find(self, presented: bytes) -> ApiKey | None:
        """The entry of a key that somebody presented; None where it is not one of ours. It may have expired."""
        match = _KEY.match(presented)
        entry = self.keys.get(match[1].decode()) if match else None
        return entry if entry is not None and entry.is_of(presented) else None


def new_key(
    key_id: str, *, routes: frozenset[str], requests_per_minute: float, burst: int, expires: datetime | None,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> tuple[str, ApiKey]:
    """A new key, which is never seen again, and the entry that lets it in.

    Args:
        random: a URL-safe text of as many random bytes.

    Raises:
        InvalidInputError: an id, route or number that cannot be.
    """
    key = f"tl_{key_id}_{random(SECRET_BYTES)}"
    document = {
        "id": key_id, "sha256": hashlib.sha256(key.encode()).hexdigest(), "routes": routes,
        "requests_per_minute": requests_per_minute, "burst": burst, "expires": expires,
    }
    try:
        return key, ApiKey.model_validate(document)
    except ValidationError as error:
        raise InvalidInputError(_explain("the new key", error)) from error


def entry_yaml(entry: ApiKey) -> str:
    """The entry as an item of the file's list, to be appended."""
    text: str = yaml.safe_dump([entry.model_dump(mode="json", exclude_none=True)], sort_keys=False, width=10_000)
    return "".join(f"  {line}\n" for line in text.splitlines())


def parse_keys(text: str, *, source: str) -> KeyRing:
    """The keys in a file.

    Raises:
        InvalidInputError: naming what is wrong and where.
    """
    try:
        document: Any = load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{source}: not valid YAML: {error}") from error
    try:
        entries = _File.model_validate(document).keys
    except ValidationError as error:
        raise InvalidInputError(_explain(source, error)) from error
    ids = [entry.id for entry in entries]
    if twice := sorted({key_id for key_id in ids if ids.count(key_id) > 1}):
        raise InvalidInputError(f"{source}: more than one key has the id {twice[0]!r}")
    return KeyRing({entry.id: entry for entry in entries})


def _explain(source: str, error: ValidationError) -> str:
    """Without the values: a secret that stands in the wrong place must not get into a log."""
    problems = (f"{'.'.join(map(str, item['loc'])) or 'the document'}: {item['msg']}" for item in error.errors())
    return f"{source}: {'; '.join(problems)}"

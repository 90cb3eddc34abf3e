"""Who is asked and told about a rollout: parts of its policy, and what may be wrong with them."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from shared.spec_part import Duration, Slug, SpecPart

WebhookType = Literal[
    "confirm-rollout", "pre-rollout", "rollout", "confirm-traffic-increase", "confirm-promotion", "post-rollout",
    "rollback", "event",
]
# What a rollout tells people.
Notice = Literal["started", "step", "waiting", "paused", "resumed", "promoted", "rolled_back", "superseded"]

LONGEST_TIMEOUT = timedelta(minutes=5)
# Whoever knows one of these addresses may write to the channel behind it.
_SECRET_ADDRESSES = ("hooks.slack.com/", "hooks.slack-gov.com/", "discord.com/api/webhooks/")


class Receiver(SpecPart):
    """Where a call goes, and how it is signed."""

    name: Slug = Field(description="what people, metrics and `tuneloop rollouts get` call it")
    url: str | None = Field(default=None, description="http or https, without credentials")
    url_from: Slug | None = Field(
        default=None, description="instead of `url`: name of a webhook secret that holds it, for addresses like Slack's"
    )
    secret: Slug | None = Field(
        default=None, description="name of the webhook secret that signs the calls; absent: they are not signed"
    )


class Webhook(Receiver):
    """An HTTP call at one of Flagger's points of a rollout; docs/rollouts.md says what each answer does."""

    type: WebhookType = Field(description="when it is called, and what its answer means")
    timeout: Duration = Field(default=timedelta(seconds=10), description="for one attempt; at most 5m")
    retries: int = Field(
        default=2, ge=0, le=10,
        description="further attempts after a fault: no connection, no answer in time, 408, 425, 429 or 5xx",
    )
    failure_threshold: int = Field(
        default=3, ge=1, description="for pre-rollout and rollout: failed calls in a row before a rollback"
    )
    metadata: dict[str, str] = Field(default_factory=dict, description="your own words, sent along")


class Notification(Receiver):
    """People are told what a rollout does. It never waits for them."""

    format: Literal["slack", "json"] = Field(
        default="slack", description="slack: an incoming webhook of Slack, Mattermost and the like; json: all facts"
    )
    events: list[Notice] | None = Field(default=None, min_length=1, description="only these; absent: all")


def url_problem(url: str) -> str | None:
    """Why a URL cannot be called, without the URL in the words: it may be a secret."""
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        return "it has a space, a backslash or a control character in it"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        return f"it is no URL: {error}"
    checks = (
        (parts.scheme not in ("http", "https"), "it must begin with http:// or https://"),
        (not host, "it has no host"),
        ("@" in parts.netloc, "it has credentials in it, which all who read the pipeline would see; use `secret`"),
        (bool(parts.fragment), "it has a fragment (#), which is never sent; remove it"),
        (_link_local(host), "it is a link-local address, where clouds keep their machines' credentials"),
    )
    return next((problem for wrong, problem in checks if wrong), None)


def _link_local(host: str) -> bool:
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False


def webhook_problems(webhooks: Sequence[Webhook]) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the list."""
    yield from receiver_problems(webhooks)
    for index, webhook in enumerate(webhooks):
        if not timedelta(0) < webhook.timeout <= LONGEST_TIMEOUT:
            yield f"{index}.timeout", (
                "it must be above 0s and at most 5m; for what takes longer, answer at once, and 503 until it is done"
            )
        if "failure_threshold" in webhook.model_fields_set and webhook.type not in ("pre-rollout", "rollout"):
            yield f"{index}.failureThreshold", f"only pre-rollout and rollout count failures, not {webhook.type}"


def receiver_problems(receivers: Sequence[Receiver]) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the list."""
    names: dict[str, int] = {}
    for index, receiver in enumerate(receivers):
        if (first := names.setdefault(receiver.name, index)) != index:
            yield f"{index}.name", f"{receiver.name} stands twice, also at {first}; rename one of them"
        if (receiver.url is None) == (receiver.url_from is None):
            yield f"{index}.url", "give either url or urlFrom"
        elif receiver.url is not None and (problem := url_problem(receiver.url)):
            yield f"{index}.url", problem
        elif receiver.url is not None and any(known in receiver.url for known in _SECRET_ADDRESSES):
            yield f"{index}.url", "who knows this address may use it; keep it as a webhook secret, named in urlFrom"

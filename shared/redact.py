"""Scrubs personal data and secrets from text, before it is kept. Pure: text in, text out.

It finds what has a form: mail addresses, phone numbers, card numbers, IBANs, IP addresses, keys and tokens. Names,
street addresses and what is said in words it does not find. Where a form alone would hit ordinary numbers, a checksum
decides (Luhn for cards, mod 97 for IBANs). Every pattern is bounded or cannot start twice in one run of characters, so
that a hostile text costs time linear in its length.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address

Span = tuple[int, int]

# Private keys, JSON web tokens, and the prefixes by which well-known services mark their keys.
_KEY_FORMS = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[A-Za-z0-9+/=\s]{0,16384}(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
    r"|\b(?:sk|pk|rk)[-_][\w-]{16,}"
    r"|\btl_[a-z0-9]{4,32}_[\w-]{20,}"
    r"|\b(?:gh[opsru]_|github_pat_|hf_|npm_|glpat-|xox[abeprs]-|ya29\.)[\w-]{10,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bAIza[\w-]{35}"
)
_KEY_MARKS = (
    "PRIVATE KEY-----", "eyJ", "sk-", "sk_", "pk-", "pk_", "rk-", "rk_", "tl_", "gho_", "ghp_", "ghr_", "ghs_", "ghu_",
    "github_pat_", "hf_", "npm_", "glpat-", "xox", "ya29.", "AKIA", "ASIA", "AIza",
)
_SECRET_WORDS = ("key", "secret", "token", "password", "passwd", "pwd", "bearer")
_NAMED_SECRET = re.compile(
    r"\b(?:api[ _-]?key|access[ _-]?key|secret|token|password|passwd|pwd|bearer)\b[\"']?(?:\s{0,3}[:=]\s{0,3}|\s{1,3})"
    r"[\"']?(?P<value>[^\s\"',;]{8,512})", re.IGNORECASE,
)
_RANDOM = re.compile(r"(?<![\w/.+=-])[\w-]{32,}(?![\w/-])")
_LONG_WORD = re.compile(r"[\w-]{32}")
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]+@(?:[\w-]+\.)+[^\W\d_]{2,24}")
_IBAN = re.compile(r"(?<![A-Za-z0-9])(?=([A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}))")
_CARD = re.compile(r"(?<!\d)(?<!\d[.,])(?=([2-6]\d{3}(?:[ -]?\d){9,15}))")
_IPV4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\w|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{0,40})(?:[0-9A-Fa-f:]{1,40}:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f:]{2,45})(?!\w)"
)
_PHONE = re.compile(
    r"(?<![\w+.])\+[1-9](?:[ ().-]{0,2}\d){6,14}(?!\d)"  # international
    r"|(?<![\w.+-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"  # North America
    r"|(?<![\w.+/-])\(?0[1-9]\d{0,4}\)?(?:[ /-]\d{2,8}){1,5}(?![\w-])"  # with the 0 of a national area code
)
_DIGIT = re.compile(r"\d")
# As every card or phone number has one: seven digits with no more between them than their patterns allow.
_DIGIT_RUN = re.compile(r"\d(?:[ ()./-]{0,3}\d){6}")
_DOTTED = re.compile(r"\d\.\d{1,3}\.\d")
_DATE = re.compile(r"\d{1,2}([/-])\d{1,2}\1\d{2,4}")
_VERSION_BEFORE = re.compile(r"(?:version|release|section|chapter|clause)\s{0,2}$", re.IGNORECASE)

# ISO 13616 lengths of the countries whose IBANs are met most.
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "CH": 21, "CY": 28,
    "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "KW": 30, "KZ": 20, "LB": 28,
    "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MT": 31, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29,
}


@dataclass(frozen=True)
class Redacted:
    """Scrubbed text, and how many pieces of each kind were replaced by ``[KIND]``."""

    text: str
    found: Mapping[str, int] = field(default_factory=dict)


def redact(text: str) -> Redacted:
    """The text with each find replaced by its kind: KEY, EMAIL, IBAN, CARD, IP, PHONE."""
    found: dict[str, int] = {}
    for kind in _KINDS:
        if not kind.may(text):
            continue
        parts, end = [], 0
        for start, stop in kind.find(text):
            if start < end:
                continue
            parts += [text[end:start], f"[{kind.name}]"]
            end = stop
            found[kind.name] = found.get(kind.name, 0) + 1
        if parts:
            text = "".join([*parts, text[end:]])
    return Redacted(text, found)


def _named_secrets(text: str) -> Iterator[Span]:
    return (match.span("value") for match in _NAMED_SECRET.finditer(text) if _looks_random(match["value"]))


def _looks_random(value: str) -> bool:
    """Not a plain word or number: "password: something" is a sentence, "password: s0mething" is not."""
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value) and not value.startswith("[")


def _is_mixed(value: str) -> bool:
    """Capitals, small letters and digits: no word, no hexadecimal digest, no UUID."""
    return all(any(test(c) for c in value) for test in (str.isupper, str.islower, str.isdigit))


def _matches(pattern: re.Pattern[str], holds: Callable[[re.Match[str]], bool]) -> Callable[[str], Iterator[Span]]:
    def spans(text: str) -> Iterator[Span]:
        return (match.span() for match in pattern.finditer(text) if holds(match))

    return spans


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[1][:2].upper())
        if length and (size := _size(match[1], length)) and _mod_97(match[1][:size]):
            yield match.start(), match.start() + size


def _cards(text: str) -> Iterator[Span]:
    """The longest run of 13 to 19 digits that is a card number; more digits may follow behind a space."""
    for match in _CARD.finditer(text):
        for length in range(19, 12, -1):
            size = _size(match[1], length)
            behind = text[match.start() + size : match.start() + size + 1]
            if size and not behind.isdigit() and _luhn(match[1][:size]):
                yield match.start(), match.start() + size
                break


def _size(text: str, count: int) -> int:
    """Characters up to and with the `count`-th letter or digit; 0 where there are fewer."""
    for index, character in enumerate(text):
        count -= character.isalnum()
        if count == 0:
            return index + 1
    return 0


def _luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    digits = [int(c) for c in reversed(number) if c.isdigit()]
    return len(set(digits)) > 1 and sum(sum(divmod(d * (1 + i % 2), 10)) for i, d in enumerate(digits)) % 10 == 0


def _mod_97(iban: str) -> bool:
    """ISO 7064, mod 97-10."""
    compact = "".join(c for c in iban if c.isalnum())
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _is_address(match: re.Match[str]) -> bool:
    """Four numbers that are not announced as a version."""
    return not _VERSION_BEFORE.search(match.string, max(0, match.start() - 12), match.start())


def _ipv6(text: str) -> Iterator[Span]:
    for match in _IPV6.finditer(text):
        found = match[0] if match[0].endswith("::") else match[0].rstrip(":")
        # A digit, because "dead::beef" is a name in more than one programming language.
        if any(c.isdigit() for c in found) and _is_ipv6(found):
            yield match.start(), match.start() + len(found)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_phone(match: re.Match[str]) -> bool:
    """9 to 15 digits and no date; with a plus, 7 are enough (ITU-T E.164 allows up to 15)."""
    digits = sum(c.isdigit() for c in match[0])
    return (7 if match[0].startswith("+") else 9) <= digits <= 15 and not _DATE.match(match[0])


def _has_any(words: tuple[str, ...]) -> Callable[[str], bool]:
    return lambda text: any(word in text for word in words)


def _finds(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.search(text) is not None


@dataclass(frozen=True)
class _Kind:
    """One form of what is scrubbed.

    Attributes:
        may: a cheap look that is never wrong when it says no; most texts hold nothing of most kinds.
    """

    name: str
    may: Callable[[str], bool]
    find: Callable[[str], Iterator[Span]]


# Secrets first, since they may hold anything; numbers with a checksum before those without.
_KINDS = (
    _Kind("KEY", _has_any(_KEY_MARKS), _matches(_KEY_FORMS, lambda _: True)),
    _Kind("KEY", lambda text: _has_any(_SECRET_WORDS)(text.lower()), _named_secrets),
    _Kind("KEY", _finds(_LONG_WORD), _matches(_RANDOM, lambda match: _is_mixed(match[0]))),
    _Kind("EMAIL", lambda text: "@" in text, _matches(_EMAIL, lambda _: True)),
    _Kind("IBAN", _finds(_DIGIT), _ibans),
    _Kind("CARD", _finds(_DIGIT_RUN), _cards),
    _Kind("IP", lambda text: text.count(":") > 1, _ipv6),
    _Kind("IP", _finds(_DOTTED), _matches(_IPV4, _is_address)),
    _Kind("PHONE", _finds(_DIGIT_RUN), _matches(_PHONE, _is_phone)),
)

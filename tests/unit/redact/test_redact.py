"""What is scrubbed from a text, and what only looks like it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.redact import _KINDS, redact

FOUND = [
    ("write to jane.doe+x@mail.example.co.uk.", "write to [EMAIL]."),
    ("<müller@beispiel.de>, a@b.io", "<[EMAIL]>, [EMAIL]"),
    ("call +49 (0)30 1234-5678 now", "call [PHONE] now"),
    ("call +14155550132", "call [PHONE]"),
    ("(415) 555-0132 or 415-555-0132 or 415.555.0132", "[PHONE] or [PHONE] or [PHONE]"),
    ("Tel: 030 12345678, 0171-1234567, 06 12 34 56 78", "Tel: [PHONE], [PHONE], [PHONE]"),
    ("4111 1111 1111 1111", "[CARD]"),
    ("card 4111-1111-1111-1111 12/27", "card [CARD] 12/27"),
    ("card 4111 1111 1111 1111 12 27", "card [CARD] 12 27"),
    ("amex 378282246310005.", "amex [CARD]."),
    ("DE89 3704 0044 0532 0130 00 and thanks", "[IBAN] and thanks"),
    ("ok12 is mine, iban gb82west12345698765432", "ok12 is mine, iban [IBAN]"),
    ("NO9386011117947", "[IBAN]"),
    ("DE89370400440532013000 OVER AND OUT", "[IBAN] OVER AND OUT"),
    ("from 203.0.113.7:8080", "from [IP]:8080"),
    ("at 192.168.0.1.", "at [IP]."),
    ("ping 2001:db8::8a2e:370:7334, ::1", "ping [IP], [IP]"),
    ("fe80::1: down; [2001:db8:0:0:0:0:0:1]:443", "[IP]: down; [[IP]]:443"),
    ("::ffff:192.0.2.128", "[IP]"),
    ("key sk-proj-abcdefghijklmnop1234", "key [KEY]"),
    ("tl_app7_" + "aB3" * 14 + "x", "[KEY]"),
    ("ghp_" + "a1B2" * 9, "[KEY]"),
    ("AKIAIOSFODNN7EXAMPLE", "[KEY]"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N", "[KEY]"),
    ("Authorization: Bearer abc123def456", "Authorization: Bearer [KEY]"),
    ('{"password": "hunter2hunter"}', '{"password": "[KEY]"}'),
    ("API_KEY=abcd1234efgh", "API_KEY=[KEY]"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----", "[KEY]"),
    ("Zx9" * 11, "[KEY]"),
]

KEPT = [
    "order 4111111111111112 is late",  # 16 digits, but no card by Luhn
    "0000 0000 0000 0000",
    "at 1764032400000 ms",  # a time stamp
    "ISBN 978-3-16-148410-0",
    "DE89370400440532013001 is mistyped",  # no IBAN by mod 97
    "3.14159265358979, 2.718281828459045, 5,105105105105100",
    "on 2026-11-25 at 12:30:45, or 01/02/2026 10:30, or 25-11-2026",
    "version 1.2.3.4, section 10.1.2.3, v1.2.3.4, 1.2.3.4.5, 256.1.1.1, 1.2.3",
    "std::string, dead::beef, a::b, ::, 12:30, aa:bb:cc:dd:ee:ff",
    "user@localhost, @mention, a @ b.com, foo@",
    "password: something, the secret garden, token: authentication, bearer certificates",
    "sha256 cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2",
    "request 8f14e45f-ceea-4b0f-9c2d-6a1b7e3d5c90 of 8f14e45fceea4b0f9c2d6a1b7e3d5c90",
    "room 101, 42 of 1000, $1,234,567.89, 100-200, 2024-2025, flight BA 2490, 10 000 000",
    "task-based-learning-and-other-hyphenated-expressions-are-words",
    "sk-short, ghp_short",
    "https://example.com/docs/Guide2Install/some-long-Path-with-1-number-and-Capitals",
    "",
]


@pytest.mark.parametrize(("text", "expected"), FOUND, ids=range(len(FOUND)))
def test_personal_data_and_secrets_are_replaced(text: str, expected: str) -> None:
    assert redact(text).text == expected


@pytest.mark.parametrize("text", KEPT, ids=range(len(KEPT)))
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(text).text == text


def test_it_says_how_many_of_each_kind() -> None:
    result = redact("a@b.com, c@d.org, 10.0.0.1, 4111 1111 1111 1111")
    assert result.found == {"EMAIL": 2, "IP": 1, "CARD": 1}
    assert redact("nothing").found == {}


@given(st.one_of(
    st.text(alphabet="aA09:.-@+ []/()_", max_size=300),
    st.lists(st.sampled_from([*(text for text, _ in FOUND), " ", "7", "-", "+1 ", "key="]), max_size=4).map("".join),
))
def test_no_cheap_look_hides_anything(text: str) -> None:
    hidden = [kind.name for kind in _KINDS if not kind.may(text) and list(kind.find(text))]
    assert hidden == []


@given(st.text(alphabet="aA0:.-@+ []/4(", max_size=200))
def test_scrubbed_text_has_nothing_left_to_scrub(text: str) -> None:
    once = redact(text).text
    assert redact(once).text == once


@pytest.mark.parametrize("piece", [
    "a", "a.", "a@", "@a.", "1", "1 ", "4-", "+1", "0 0", "1.", ":", "a:", "AA11", "AA11 ", "eyJ", "sk-", "password=",
    "-", "(0", "-----BEGIN PRIVATE KEY-----", "aA1", "\u00e9",
])
def test_a_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    """Twice the text takes about twice the time; a quadratic pattern would take seconds here and minutes later."""
    text = piece * (200_000 // len(piece))
    begun = time.process_time()
    redact(text)
    assert time.process_time() - begun < 4.0

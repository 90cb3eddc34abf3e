"""Which PromQL a guardrail may have, and what it is asked as."""

import pytest

from shared.promql import fill, selectors


@pytest.mark.parametrize(("expression", "expected"), [
    ('x{v="$version"}', ['x{v="m@2"}']),
    ('x{v="${version}", r="$route"}', ['x{v="m@2",r="m"}']),
    ('(x{v="$version"} + y{v=~"$version",c!="200",d!~"a|b"}) + z{v="$version"}',
     ['x{v="m@2"}', 'y{v=~"m@2",c!="200",d!~"a|b"}', 'z{v="m@2"}']),
    (r'x{v="$version",path="a\"b\\c"}', [r'x{v="m@2",path="a\"b\\c"}']),
    ('x{v="$version",name="größe$"}', ['x{v="m@2",name="größe$"}']),
    ('tuneloop_gateway_request_duration_seconds_bucket{model_version="$version",le="1"}',
     ['tuneloop_gateway_request_duration_seconds_bucket{model_version="m@2",le="1"}']),
])
def test_sums_of_counters_are_accepted(expression: str, expected: list[str]) -> None:
    assert [fill(selector, route="m", version="m@2") for selector in selectors(expression)] == expected


@pytest.mark.parametrize(("expression", "why"), [
    ("", "is not PromQL"),
    ('x{v="$version"', "is not PromQL: unexpected end of input inside braces"),
    ('rate(x{v="$version"}[5m])', "is a function: write plain counters with + between them"),
    ('sum(x{v="$version"})', "is an aggregation: write plain counters"),
    ('x{v="$version"}[5m]', "is a range: write plain counters"),
    ('x{v="$version"}[5m:1m]', "is a subquery: write plain counters"),
    ('x{v="$version"} / y{v="$version"}', "is arithmetic other than +: write plain counters"),
    ('x{v="$version"} + on(a) y{v="$version"}', "is arithmetic other than +"),
    ('x{v="$version"} + 1', "1 is a number"),
    ('-x{v="$version"}', "is a negated value"),
    ('x{v="$version"} offset 5m', "looks at another time: remove offset and @"),
    ('x{v="$version"} @ 5', "looks at another time"),
    ('{v="$version"}', "names no metric"),
    ('x{v="$version" or v="b"}', "has 'or' between matchers"),
    ("x", 'is the same for every version; add a matcher such as {model_version="$version"}'),
    ('x{v="$version"} + y{v="b"}', 'y{v="b"} is the same for every version'),
    ('x{v="$version",a="$pipeline"}', "$pipeline is unknown; there are $version and $route"),
    ('tuneloop_gateway_request_total{model_version="$version"}',
     "the gateway has no counter tuneloop_gateway_request_total; did you mean tuneloop_gateway_requests_total?"),
    ('tuneloop_nonsense{v="$version"}', "the gateway has no counter tuneloop_nonsense; docs/gateway.md lists them"),
])
def test_all_else_is_refused_with_the_remedy(expression: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        selectors(expression)
    assert why in str(caught.value)

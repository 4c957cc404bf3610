"""The header rules, each direction against its whole table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.model import Headers
from resumestream.upstream import RawHeaders, forwarded, recorded, replayable

IDENTITY = (b"accept-encoding", b"identity")


def raw(*lines: str) -> RawHeaders:
    pairs = (line.split(": ", 1) for line in lines)
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


@pytest.mark.parametrize(
    "name",
    [
        # hop by hop, or made anew
        *("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade"),
        *("HTTP2-Settings", "Host", "Content-Length", "Expect", "Accept-Encoding"),
        # about the caller
        *("Cookie", "Origin", "Referer", "Sec-Fetch-Site", "Sec-CH-UA", "Proxy-Authorization", "Forwarded", "Via"),
        *("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP"),
        # ours
        *("Idempotency-Key", "X-Idempotency-Key", "Stream-Scope", "Stream-Anything"),
    ],
)
@pytest.mark.parametrize("spelling", [str.lower, str.upper, str])
def test_not_forwarded(name: str, spelling: type[str]) -> None:
    """However it is spelt."""
    assert forwarded(raw(f"{spelling(name)}: secret")) == [IDENTITY]


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "x-api-key", "x-goog-api-key", "api-key", "content-type", "content-encoding", "accept"),
        *("user-agent", "anthropic-version", "anthropic-beta", "openai-organization", "x-stainless-retry-count"),
        *("http-referer", "x-title", "traceparent", "last-event-id", "range", "cf-aig-authorization", "x-custom"),
    ],
)
def test_forwarded(name: str) -> None:
    """Whatever no rule names goes through, in its order and as often as it came."""
    lines = raw(f"{name}: b", "accept-language: x", f"{name}: a")
    assert forwarded(lines) == [*lines, IDENTITY]


def test_what_connection_lists_is_hop_by_hop() -> None:
    """Every header of that name counts, in any case and spacing."""
    lines = raw("Connection: close, X-Hop", "X-Hop: 1", "connection: x-other ,", "X-Other: 1", "X-Stays: 1")
    assert forwarded(lines) == [*raw("x-stays: 1"), IDENTITY]


@pytest.mark.parametrize(
    ("preference", "left"),
    [
        ("respond-async", None),
        ("Respond-Async", None),
        ("respond-async; x=1", None),
        ("wait=10", "wait=10"),
        ("respond-async, wait=10", "wait=10"),
        ("return=minimal, respond-async, wait=10", "return=minimal, wait=10"),
        ('a="x, respond-async", respond-async', 'a="x, respond-async"'),
        ('a="x\\", respond-async"', 'a="x\\", respond-async"'),
        ("respond-asynchronously", "respond-asynchronously"),
        ("", ""),
    ],
)
def test_of_prefer_only_respond_async_is_ours(preference: str, left: str | None) -> None:
    """The other preferences go on as they were."""
    expected = [] if left is None else raw(f"prefer: {left}")
    assert forwarded(raw(f"Prefer: {preference}")) == [*expected, IDENTITY]


@given(st.text(alphabet='",\\=; arespond-async', max_size=40))
def test_a_prefer_without_ours_is_untouched(preference: str) -> None:
    """Byte for byte, however odd."""
    if "respond-async" not in preference:
        assert forwarded([(b"prefer", preference.encode())]) == [(b"prefer", preference.encode()), IDENTITY]


def test_last_event_id_is_ours_where_the_caller_of_the_rule_says_so() -> None:
    """Only it knows whether it is an offset of ours."""
    lines = raw("last-event-id: 17")
    assert forwarded(lines, last_event_id_is_ours=True) == [IDENTITY]
    assert forwarded(lines) == [*lines, IDENTITY]


def test_server_side_headers_replace_every_credential() -> None:
    """The caller's credentials are for us; none reaches the provider beside the operator's."""
    lines = raw("Authorization: a", "X-Api-Key: b", "x-goog-api-key: c", "api-key: d", "X-Org: theirs", "accept: e")
    own = raw("x-api-key: ours", "x-org: our org")
    assert forwarded(lines, own=own) == [*raw("accept: e"), IDENTITY, *own]
    assert forwarded(lines, own=[]) == [*raw("x-org: theirs", "accept: e"), IDENTITY]


@pytest.mark.parametrize(
    "name", ["helicone-auth", "x-portkey-api-key", "cf-aig-authorization", "x-amz-security-token", "x-goog-signature"]
)
def test_what_may_be_a_credential_by_its_name_is_one(name: str) -> None:
    """A fallback is another company."""
    assert forwarded(raw(f"{name}: theirs"), own=[]) == [IDENTITY]
    assert forwarded(raw(f"{name}: theirs")) == [*raw(f"{name}: theirs"), IDENTITY]


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authenticate"),
        *("Set-Cookie", "Access-Control-Allow-Origin", "Stream-Id", "Stream-Offset", "Idempotent-Replayed", "Location"),
        *("X-Accel-Redirect", "X-Sendfile", "Surrogate-Control", "CDN-Cache-Control", "Service-Worker-Allowed"),
        *("Cross-Origin-Resource-Policy", "Timing-Allow-Origin"),
        *("Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data", "NEL", "Report-To", "Reporting-Endpoints"),
    ],
)
def test_not_recorded(name: str) -> None:
    """What is between us and the upstream, speaks for its origin, or would look like ours."""
    assert recorded(200, raw(f"{name}: x")) == ()


def test_recorded() -> None:
    """In order, names in lower case, values as latin-1; body headers stay, since the body is kept as it came."""
    lines = raw("Content-Type: a", "X-B: ä", "Content-Encoding: gzip", "x-b: 2", "Content-Length: 3", "retry-after: 1")
    expected: Headers = (("content-type", "a"), ("x-b", "ä"), ("content-encoding", "gzip"), ("x-b", "2"))
    assert recorded(200, lines) == (*expected, ("content-length", "3"), ("retry-after", "1"))


def test_what_an_answers_connection_lists_is_not_recorded() -> None:
    """As for requests."""
    assert recorded(200, raw("Connection: X-Hop", "x-hop: 1", "x-b: 2")) == (("x-b", "2"),)


@pytest.mark.parametrize(("status", "kept"), [(200, False), (201, False), (299, False), (302, True), (404, True)])
def test_only_the_location_of_success_is_ours(status: int, kept: bool) -> None:
    """A redirect's, or an error's, is part of what the upstream says."""
    assert (recorded(status, raw("location: /x")) == (("location", "/x"),)) is kept


def test_a_length_beside_a_coding_is_void() -> None:
    """It was never the body's."""
    assert recorded(200, raw("content-length: 3", "transfer-encoding: chunked", "x-b: 1")) == (("x-b", "1"),)


def test_a_replay_has_no_rate_limits() -> None:
    """They were those of another minute."""
    limits = ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-requests-limit", "ratelimit-policy")
    headers: Headers = (*((name, "1") for name in limits), ("x-request-id", "r"), ("retry-after", "1"))
    assert replayable(headers) == (("x-request-id", "r"), ("retry-after", "1"))

"""What looks like a credential is starred out of texts, refusals and logs; what only resembles one is left alone."""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.errors import ResumeStreamError
from resumestream.hub import mint
from resumestream.redaction import Redactor, redact, redacting_logs

SECRET = "0123456789abcdefghijABCDEFGHIJ"

STARRED = [
    "sk-{}", "sk-proj-{}", "sk-ant-api03-{}", "gsk_{}", "xai-{}", "hf_{}", "AIza{}", "ya29.{}",
    "eyJhbGciOiJIUzI1NiJ9.e30.{}", "Authorization: Bearer {}", "bearer\t{}", "Basic {}", "/x?key={}", "a=b&api_key={}",
    "?ticket=v1.{}", "access_token={}", "x-api-key: {}", "'x-goog-api-key': '{}'", '"api_key":"{}"', "api-key={}",
]  # fmt: skip


@pytest.mark.parametrize("form", STARRED)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("Incorrect: ", ", see the docs."), ("<", "> \n")])
def test_what_looks_like_a_credential_is_starred_out(form: str, before: str, after: str) -> None:
    """Wherever it stands, leaving the length and all around it."""
    if before and form.startswith("access"):
        before = "/path?a=1&"
    text = before + form.format(SECRET) + after
    masked = redact(text)
    assert SECRET not in masked
    assert len(masked) == len(text)
    assert masked.startswith(before)
    assert masked.endswith(after)
    assert redact(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "a bearer of news", "Basic authentication is needed", "the key= is missing", "task-oriented-and-very-long-word",
        "risk-0123456789abcdefghijABCDEFGHIJ", "monkey=3", "sk-short", "an AIza of nothing",
        "Stream 0123456789abcdefghijABCD was expired", "POST /v1/chat?alt=sse&keys=2", "x-api-key is missing",
    ],
)  # fmt: skip
def test_what_only_resembles_one_is_left(text: str) -> None:
    """Refusals stay readable."""
    assert redact(text) == text


def test_no_stream_id_is_taken_for_one() -> None:
    """Messages name streams by random texts, of which some begin as keys do."""
    for prefix in ("sk-", "hf_", "gsk_", "AIza", "xai-"):
        stream = prefix + mint()[len(prefix) :]
        assert redact(f"Stream {stream}.") == f"Stream {stream}."


@given(st.lists(st.integers(0, 120), max_size=6), st.sampled_from(STARRED))
def test_cut_anywhere_it_is_starred_out_all_the_same(cuts: list[int], form: str) -> None:
    """Bytes come as they come; what comes out is what one piece would have given."""
    known = "opaque/0123456789"
    text = f'{{"error": "no: {form.format(SECRET)}", "url": "http://h/?{form.format(SECRET)}", "sent": "{known}"}}'
    data, redactor = text.encode(), Redactor([f"Token {known}", "short"])
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    out = b"".join(redactor.feed(data[a:b]) for a, b in itertools.pairwise(places)) + redactor.rest()
    assert out == Redactor([known]).text(text).encode()
    assert known.encode() not in out
    assert len(out) == len(data)


def test_bytes_that_are_no_text_pass() -> None:
    """And nothing is held for longer than a word may be."""
    data, redactor = bytes(range(128, 256)) * 100, Redactor()
    out = redactor.feed(data)
    assert len(data) - len(out) <= 4096
    assert out + redactor.rest() == data


def test_error_texts_hold_none() -> None:
    """Whoever wrote them."""
    error = ResumeStreamError(f"the upstream said sk-{SECRET}")
    assert SECRET not in error.message + str(error) + repr(error)


def test_logs_hold_none(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in messages, nor arguments, nor tracebacks; access logs keep their five arguments."""
    access, ours = logging.getLogger("uvicorn.access"), logging.getLogger("resumestream")
    with caplog.at_level(logging.DEBUG), redacting_logs():
        access.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", f"/x?key={SECRET}", "1.1", 200)
        ours.info(f"a key: sk-{SECRET}")
        ours.info("in %(a)s", {"a": f"Bearer {SECRET}"})
        ours.info("the error %s", ValueError(f"sk-{SECRET}"))
        try:
            raise LookupError(f"sk-{SECRET}")
        except LookupError:
            ours.exception("a source raised")
    assert SECRET not in caplog.text
    assert len(caplog.records) == 5
    assert caplog.records[0].args == ("127.0.0.1:1", "GET", f"/x?key={'*' * len(SECRET)}", "1.1", 200)
    assert "LookupError: " in caplog.text
    access.info("%s", f"/x?key={SECRET}")
    assert not access.filters

"""What looks like a credential is starred out of texts, refusals and logs; what only resembles one is left alone."""

from __future__ import annotations

import itertools
import json
import logging
import time

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
    "?token={}", "&sig={}", "https://user:{}@host/", "sk_live_{}", "glpat-{}", "sk-0123456789abcdef0123456789{}",
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
        "sk-learn-gradient-boosting-classifier", "xai-grok-4-fast-reasoning-2026-01", "?page_token=2", "key=",
        "x-api-key: authentication required", "api_key: see_docs\\nContact us", "http://host:8080/v1",
        '"api_key":12345678901',
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


def test_a_letters_only_token_is_one_where_one_stands() -> None:
    assert redact("Bearer abcdefghijklmnopqrstuvwxyz") == "Bearer " + 26 * "*"


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
    """And no more is held than a word may be long, twice."""
    data, redactor = bytes(range(128, 256)) * 100, Redactor()
    out = redactor.feed(data)
    assert len(data) - len(out) <= 8192
    assert out + redactor.rest() == data


@pytest.mark.parametrize("size", [1, 700, 4096, 20_000])
@pytest.mark.parametrize("at", [0, 4070, 4096, 5000, 8190, 12_000])
def test_in_a_text_without_breaks_it_is_starred_out_all_the_same(size: int, at: int) -> None:
    """Base64 and minified scripts have none, so the text is let go somewhere in a word."""
    known = "opaque/0123456789"
    data = ("A" * at + f"&key={SECRET}&known={known}&pad=" + "A" * 9000).encode()
    redactor = Redactor([known])
    out = b"".join(redactor.feed(data[a : a + size]) for a in range(0, len(data), size)) + redactor.rest()
    assert len(out) == len(data)
    assert SECRET[3:].encode() not in out
    assert known[3:].encode() not in out
    assert out.endswith(b"&pad=" + b"A" * 9000)


TEXTS = st.text(st.characters(codec="latin-1"), max_size=8) | st.builds(
    lambda form, quote: f"no {quote}{form.format(SECRET)}{quote}\n", st.sampled_from(STARRED), st.sampled_from("\"\\' ")
)


@given(st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)))
def test_json_stays_json(value: object) -> None:
    """SDKs read a provider's refusal, with the same number of everything in it."""
    text = json.dumps(value)
    masked, before = (json.loads(one, object_pairs_hook=Pairs) for one in (redact(text), text))
    assert shape(masked) == shape(before)


class Pairs(list[tuple[str, object]]):
    """An object's members, also where two have the same name by now."""


def shape(value: object) -> object:
    match value:
        case Pairs():
            return [shape(inner) for _, inner in value]
        case list():
            return [shape(inner) for inner in value]
    return type(value)


@pytest.mark.parametrize("unit", ["A", "-eyJ", "sk-", "sk-a", "&key=", "bearer ", "api_key ", "://a:", "a ", "key=a&"])
def test_it_takes_time_in_proportion(unit: str) -> None:
    """Whoever quotes or asks for something strange stops nobody else: ten times the text, about ten times the time."""

    def seconds(size: int) -> float:
        redactor, data = Redactor(["opaque/0123456789"]), (unit * size)[:size].encode() + b" "
        times = []
        for _ in range(3):
            began = time.perf_counter()
            redactor.feed(data)
            times.append(time.perf_counter() - began)
        return min(times)

    assert seconds(160_000) < 40 * seconds(16_000) + 0.005


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


def test_no_log_line_is_lost_or_breaks_who_wrote_it(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a caller asks for, the access log's formatter finds its five arguments; a line that cannot be formatted
    is the formatter's to tell of."""
    access, errors = logging.getLogger("uvicorn.access"), logging.getLogger("uvicorn.error")
    asked = ("127.0.0.1:1", "GET", "/hidden?api_key=", "1.1", 404)
    with caplog.at_level(logging.DEBUG), redacting_logs():
        access.info('%s - "%s %s HTTP/%s" %d', *asked)
        assert caplog.records[-1].args == asked
        record = logging.LogRecord("uvicorn.error", logging.INFO, "", 1, "%d items", ("x",), None)
        assert errors.filter(record)

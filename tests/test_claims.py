"""What a POST with a key does: every case of the contract, with its answer written out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from resumestream.claims import Attach, Start, Terms, decide
from resumestream.errors import KeyExpired, KeyReused, NothingToResume, ResumeStreamError, RetryMismatch
from resumestream.model import Binding, Gone, NewStream, Outcome, Seal, StreamId, StreamInfo

NOW = 1000.0
PRESENT, EARLIER, FOREIGN = StreamId("present"), StreamId("earlier"), StreamId("foreign")
BINDING = Binding(PRESENT, "fp", earlier=(StreamId("first"), EARLIER))
INFO = StreamInfo(
    NewStream(PRESENT, "me", "openai", "worker", created_at=900, retain_s=60, tombstone_s=60, key="k", fingerprint="fp")
)


def sealed(outcome: Outcome, *, released: bool = False, retry_at: float | None = None) -> StreamInfo:
    return replace(INFO, seal=Seal(outcome, "detail", "It ended.", released=released, retry_at=retry_at))


def gone(info: StreamInfo, why: Gone = Gone.EXPIRED) -> StreamInfo:
    return replace(info, gone=why, gone_at=990)


RELEASED = sealed(Outcome.PROVIDER_ERROR, released=True)
COOLING = sealed(Outcome.PROVIDER_ERROR, released=True, retry_at=NOW + 0.1)
COOLED = sealed(Outcome.PROVIDER_ERROR, released=True, retry_at=NOW)
COMPLETED = sealed(Outcome.COMPLETED)

FAILED = {outcome.value: sealed(outcome) for outcome in Outcome if outcome is not Outcome.COMPLETED}
GONE = {why.value: gone(COMPLETED, why) for why in Gone}
FAILED_GONE = {f"failed, {why.value}": gone(FAILED["truncated"], why) for why in Gone}

STANDINGS: dict[str, dict[str, StreamInfo]] = {
    "live": {"pending": INFO, "streaming": replace(INFO, tail=9), "stopping": replace(INFO, cancel_requested=True)},
    "completed": {"completed": COMPLETED},
    "failed": FAILED,
    "released": {"released": RELEASED, "cooled": COOLED, "gone": gone(RELEASED), "gone, cooling": gone(COOLING)},
    "cooling": {"cooling": COOLING},
    "gone": GONE | FAILED_GONE,
}

# start, attach, or the code of the refusal. Columns: what Stream-Retry names, without and with an offset to resume at.
TABLE = """
                    none               present            earlier            foreign          | with an offset:
                                                                                                none               present            earlier            foreign
live      same      attach             attach             attach             retry-mismatch     attach             attach             nothing-to-resume  retry-mismatch
live      other     key-reused         key-reused         key-reused         retry-mismatch     key-reused         key-reused         key-reused         retry-mismatch
live      match     attach             attach             attach             retry-mismatch     attach             attach             nothing-to-resume  retry-mismatch
completed same      attach             attach             attach             retry-mismatch     attach             attach             nothing-to-resume  retry-mismatch
completed other     key-reused         key-reused         key-reused         retry-mismatch     key-reused         key-reused         key-reused         retry-mismatch
completed match     attach             attach             attach             retry-mismatch     attach             attach             nothing-to-resume  retry-mismatch
failed    same      attach             start              attach             retry-mismatch     attach             nothing-to-resume  nothing-to-resume  retry-mismatch
failed    other     key-reused         start              key-reused         retry-mismatch     key-reused         nothing-to-resume  key-reused         retry-mismatch
failed    match     attach             start              attach             retry-mismatch     attach             nothing-to-resume  nothing-to-resume  retry-mismatch
released  same      start              start              start              retry-mismatch     nothing-to-resume  nothing-to-resume  nothing-to-resume  retry-mismatch
released  other     start              start              start              retry-mismatch     nothing-to-resume  nothing-to-resume  nothing-to-resume  retry-mismatch
released  match     start              start              start              retry-mismatch     nothing-to-resume  nothing-to-resume  nothing-to-resume  retry-mismatch
cooling   same      attach             start              attach             retry-mismatch     attach             nothing-to-resume  nothing-to-resume  retry-mismatch
cooling   other     attach             start              attach             retry-mismatch     attach             nothing-to-resume  nothing-to-resume  retry-mismatch
cooling   match     attach             start              attach             retry-mismatch     attach             nothing-to-resume  nothing-to-resume  retry-mismatch
gone      same      key-expired        start              key-expired        retry-mismatch     key-expired        nothing-to-resume  key-expired        retry-mismatch
gone      other     key-expired        start              key-expired        retry-mismatch     key-expired        nothing-to-resume  key-expired        retry-mismatch
gone      match     key-expired        start              key-expired        retry-mismatch     key-expired        nothing-to-resume  key-expired        retry-mismatch
"""  # noqa: E501

COLUMNS = list(itertools.product((False, True), (None, PRESENT, EARLIER, FOREIGN)))


def rows() -> dict[tuple[str, str], list[str]]:
    lines = [line.split() for line in TABLE.splitlines()[3:]]
    return {(standing, body): cells for standing, body, *cells in lines}


CASES = [
    pytest.param(info, body, resumes, retry_of, expected, id=f"{name}-{body}-{retry_of}{'-offset' * resumes}")
    for (standing, body), cells in rows().items()
    for (resumes, retry_of), expected in zip(COLUMNS, cells, strict=True)
    for name, info in STANDINGS[standing].items()
]


def outcome(terms: Terms, binding: Binding | None, info: StreamInfo | None) -> Start | Attach | str:
    try:
        return decide(terms, binding, info, NOW)
    except ResumeStreamError as error:
        return error.code


def test_the_table_is_whole() -> None:
    """Every standing meets every kind of body."""
    assert set(rows()) == set(itertools.product(STANDINGS, ("same", "other", "match")))


@pytest.mark.parametrize(("info", "body", "resumes", "retry_of", "expected"), CASES)
def test_every_case(info: StreamInfo, body: str, resumes: bool, retry_of: StreamId | None, expected: str) -> None:
    """A bound key decides as the table says."""
    fingerprint = "fp" if body == "same" else "another"
    terms = Terms(fingerprint, match_key=body == "match", retry_of=retry_of, resumes=resumes)
    decisions = {"start": Start(replaces=PRESENT), "attach": Attach(PRESENT)}
    assert outcome(terms, BINDING, info) == decisions.get(expected, expected)


@pytest.mark.parametrize("match_key", [False, True])
@pytest.mark.parametrize(
    ("retry_of", "resumes", "expected"),
    [
        (None, False, Start(replaces=None)),
        (FOREIGN, False, "retry-mismatch"),
        (None, True, "nothing-to-resume"),
        (FOREIGN, True, "nothing-to-resume"),
    ],
)
def test_an_unknown_key(match_key: bool, retry_of: StreamId | None, resumes: bool, expected: Start | str) -> None:
    """A key without a stream starts one, unless the caller believes that there is one."""
    terms = Terms("fp", match_key=match_key, retry_of=retry_of, resumes=resumes)
    assert outcome(terms, None, None) == expected


def test_a_forgotten_stream_is_an_unknown_key() -> None:
    """The record ran out between two reads: start as if unbound, and let the compare-and-set find out."""
    assert decide(Terms("fp"), BINDING, None, NOW) == Start(replaces=None)


@pytest.mark.parametrize(("asked", "bound"), [("", "fp"), ("fp", ""), ("", "")])
def test_no_fingerprint_never_mismatches(asked: str, bound: str) -> None:
    """Your own generators have none, on either side."""
    assert decide(Terms(asked), replace(BINDING, fingerprint=bound), INFO, NOW) == Attach(PRESENT)


REFUSALS: list[tuple[type[ResumeStreamError], Terms, StreamInfo]] = [
    (KeyReused, Terms("another"), INFO),
    (KeyExpired, Terms("fp"), GONE["deleted"]),
    (RetryMismatch, Terms("fp", retry_of=FOREIGN), INFO),
    (NothingToResume, Terms("fp", resumes=True), RELEASED),
    (NothingToResume, Terms("fp", resumes=True, retry_of=EARLIER), INFO),
]


@pytest.mark.parametrize(("error", "terms", "info"), REFUSALS)
def test_refusals_name_the_stream_and_the_next_step(
    error: type[ResumeStreamError], terms: Terms, info: StreamInfo
) -> None:
    """The stream stands in the text and in the error's own field; the text says what to send instead."""
    with pytest.raises(error) as refusal:
        decide(terms, BINDING, info, NOW)
    assert refusal.value.stream == PRESENT
    assert PRESENT in refusal.value.message
    assert any(word in refusal.value.message for word in ("Stream-Match", "Stream-Retry", "Leave", "leave"))

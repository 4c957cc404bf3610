"""Wrong caps and windows are refused when they are made, by name."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from resumestream.errors import ConfigError
from resumestream.policy import Policy, grace_s, valid_on_disconnect

NUMBERS = [spec.name for spec in fields(Policy) if spec.name not in ("durability", "on_disconnect")]
MAY_BE_ZERO = {"retain_s", "tombstone_s", "drain_s", "settle_s"}

DEFAULTS = {
    "durability": "process",
    "on_disconnect": "continue",
    "retain_s": 86_400,
    "max_retain_s": 604_800,
    "tombstone_s": 604_800,
    "erase_s": 3_600,
    "ledger_s": 90 * 86_400,
    "first_byte_s": 600,
    "stall_s": 300,
    "keepalive_s": 15,
    "max_duration_s": 3_600,
    "max_stream_bytes": 2**30,
    "max_event_bytes": 16 * 2**20,
    "max_request_bytes": 64 * 2**20,
    "max_live_streams": 1_000,
    "max_total_bytes": 10 * 2**30,
    "max_orphan_drains": 100,
    "lease_s": 10,
    "drain_s": 5,
    "busy_s": 5,
    "relocate_s": 3_600,
}


def policy(**values: Any) -> Policy:
    """A Policy of unchecked values."""
    return Policy(**values)


def test_the_defaults_are_the_contracts() -> None:
    """What the design promises without a Policy is what a Policy without arguments says."""
    assert {name: getattr(Policy(), name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, -0.5, -math.inf, math.nan, True, False, None, "5", "", [], 1j])
def test_no_number_is_refused(name: str, value: object) -> None:
    """Negative ones, NaN, booleans and other types, in every field, with its name."""
    with pytest.raises(ConfigError, match=rf"Policy\.{name} is "):
        policy(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_zero(name: str) -> None:
    """Allowed where it means "at once", refused where it would mean "never" or "nothing"."""
    if name in MAY_BE_ZERO:
        assert getattr(policy(**{name: 0}), name) == 0
    else:
        with pytest.raises(ConfigError, match=rf"Policy\.{name} is 0; it must be greater than 0"):
            policy(**{name: 0})


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - {"retain_s"}))
def test_no_limit(name: str) -> None:
    """Infinity is a number: whoever wants no cap can say so."""
    assert getattr(policy(**{name: math.inf}), name) == math.inf


def test_nothing_is_kept_for_longer_than_the_most() -> None:
    """The default may not lie above what a caller may ask for."""
    with pytest.raises(ConfigError, match=r"retain_s.*max_retain_s"):
        Policy(retain_s=11, max_retain_s=10)
    assert Policy(retain_s=10, max_retain_s=10).retain_s == 10


@pytest.mark.parametrize("value", ["none", "DISK", "", None, 1, ["disk"]])
def test_durability_is_process_or_disk(value: object) -> None:
    """Nothing else is a promise a server can make."""
    with pytest.raises(ConfigError, match=r"Policy\.durability"):
        policy(durability=value)
    assert Policy(durability="disk").durability == "disk"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "stop",
        "Continue",
        "grace",
        "grace:",
        "grace:-1",
        "grace:1e3",
        "grace:1.",
        "grace:1234567",
        "continue\n",
        None,
        5,
    ],
)
def test_on_disconnect_is_refused(value: object) -> None:
    """A word it does not know, or no number of seconds."""
    with pytest.raises(ConfigError, match=r"Policy\.on_disconnect"):
        policy(on_disconnect=value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("continue", math.inf), ("cancel", 0.0), ("grace:0", 0.0), ("grace:30", 30.0), ("grace:2.5", 2.5)],
)
def test_grace(text: str, seconds: float) -> None:
    """How long a stream goes on without a reader."""
    assert valid_on_disconnect(text)
    assert Policy(on_disconnect=text).on_disconnect == text
    assert grace_s(text) == seconds


def test_a_policy_is_frozen_and_named() -> None:
    """Fields are given by name, and an unknown one is refused."""
    with pytest.raises(AttributeError):
        Policy().retain_s = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        policy(retention=1)
    with pytest.raises(TypeError):
        Policy("disk")  # type: ignore[call-arg]

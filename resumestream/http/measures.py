"""What `GET /metrics` tells, as a table. Labels are what operators configured and what this package names, never what a
caller or a provider wrote: that would be unbounded, and could be a secret."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from .. import errors
from ..hub import Hub
from ..metering import Sums
from ..model import Outcome, State

Samples = Mapping[tuple[str, ...], float]
"""Values by the values of the labels."""

OWN = "-"
"""The upstream of your own sources, which have none: no upstream can be named so."""
KINDS = ("input", "output", "cached_input", "reasoning")
"""Fields of metering.Tokens."""
PROBLEMS = sorted(
    kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ResumeStreamError)
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is measured, at one moment. `upstreams` are the configured names."""

    hub: Hub
    upstreams: Collection[str]
    ready: bool

    @property
    def calls(self) -> dict[str, Sums]:
        """By upstream, also of those that had none yet: a rate needs the zero before the first."""
        counted = self.hub.counters.calls
        return {name or OWN: counted.get(name) or Sums() for name in dict.fromkeys((*self.upstreams, "", *counted))}


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. Its name has the base unit, and ends with `_total` where it only grows."""

    name: str
    meaning: str
    read: Callable[[Seen], Samples]
    labels: tuple[str, ...] = ()

    @property
    def grows(self) -> bool:
        return self.name.endswith("_total")


def _one(value: float) -> Samples:
    return {(): value}


def _by(values: Callable[[str], float], names: Iterable[str]) -> Samples:
    return {(name,): values(name) for name in names}


def _outcomes(seen: Seen) -> Samples:
    return {
        (upstream, outcome): sums.outcomes[outcome]
        for upstream, sums in seen.calls.items()
        for outcome in dict.fromkeys((*Outcome, *sums.outcomes))
    }


def _tokens(seen: Seen) -> Samples:
    return {
        (upstream, kind): getattr(sums.made.tokens, kind) for upstream, sums in seen.calls.items() for kind in KINDS
    }


def _states(seen: Seen) -> Samples:
    states = seen.hub.states()
    return {(state,): states[state] for state in (State.PENDING, State.STREAMING)}


MEASURES: tuple[Measure, ...] = (
    Measure(
        "resumestream_ready",
        "1 while /readyz is 200: new streams are taken and the store can write; else 0.",
        lambda seen: _one(seen.ready),
    ),
    Measure(
        "resumestream_drains",
        "Streams that this process drains; for a moment also after their end, until the provider is let go of.",
        lambda seen: _one(seen.hub.drains),
    ),
    Measure(
        "resumestream_orphan_drains",
        "Of the drains, those whose last reader left, as max_orphan_drains counts them.",
        lambda seen: _one(seen.hub.orphans),
    ),
    Measure(
        "resumestream_live_streams",
        "Streams of this process that have not ended. pending: no payload yet, also while the key is being claimed.",
        _states,
        ("state",),
    ),
    Measure(
        "resumestream_readers",
        "Open reads, of live and of ended streams, whichever process drains them.",
        lambda seen: _one(seen.hub.reads.count),
    ),
    Measure(
        "resumestream_provider_calls_total",
        "Recorded provider calls by how they ended, failed attempts included.",
        _outcomes,
        ("upstream", "outcome"),
    ),
    Measure(
        "resumestream_provider_payload_bytes_total",
        "Payload of recorded provider calls.",
        lambda seen: {(upstream,): sums.payload_bytes for upstream, sums in seen.calls.items()},
        ("upstream",),
    ),
    Measure(
        "resumestream_tokens_total",
        "Tokens that providers told of recorded calls. cached_input is part of input, reasoning of output.",
        _tokens,
        ("upstream", "kind"),
    ),
    Measure(
        "resumestream_reader_payload_bytes_total",
        "Payload in answers to readers, counted when an answer ends.",
        lambda seen: _one(seen.hub.counters.given_bytes),
    ),
    Measure(
        "resumestream_attaches_total",
        "Requests that got the live stream of an earlier one instead of a call.",
        lambda seen: _one(seen.hub.tallies.total.attaches),
    ),
    Measure(
        "resumestream_replays_total",
        "Requests that got the ended stream of an earlier one instead of a call.",
        lambda seen: _one(seen.hub.tallies.total.replays),
    ),
    Measure(
        "resumestream_refusals_total",
        "Answers that are an error of ours, by its code.",
        lambda seen: _by(seen.hub.counters.refusals.__getitem__, PROBLEMS),
        ("type",),
    ),
)

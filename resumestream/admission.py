"""What refuses a start before any provider call: the caps on live streams, on orphans, and on kept bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import anyio

from .errors import ResumeStreamError, StoreFull, TooManyOfPrincipal, TooManyOrphans, TooManyStreams
from .eviction import Eviction
from .model import Kept, NewStream, StreamId
from .policy import Policy
from .ports import LogStore

RETRY_AFTER_S = 5
"""What a refusal asks to wait: about one short answer."""


class _Claim:
    def __init__(self, principal: str) -> None:
        self.principal = principal
        self.decided = anyio.Event()


class Admission:
    """`with admission.claiming(new): await admission.admit(new, ...)`, and the create before the `with` ends.

    A claim counts from `claiming` on, so claims that race in one process never pass a cap together: near the cap one
    waits until the creates of those before it are decided. Caps are the store's; claims that race in two processes
    may exceed one by as many as are being claimed at the same time.
    """

    def __init__(self, store: LogStore, policy: Policy, eviction: Eviction) -> None:
        self._store, self._policy, self._eviction = store, policy, eviction
        self._claims: dict[StreamId, _Claim] = {}

    @contextmanager
    def claiming(self, new: NewStream) -> Iterator[None]:
        """Count `new` as live meanwhile, and leave once the store does so, or never will."""
        claim = self._claims[new.id] = _Claim(new.principal)
        try:
            yield
        finally:
            del self._claims[new.id]
            claim.decided.set()

    async def admit(self, new: NewStream, limits: Mapping[str, int], *, live: int, orphans: int) -> None:
        """Return if `new`, within `claiming`, may be created. Evicts sealed payloads where room is needed.

        `live`: how many drains run in this process, also those whose stream is sealed already; `new` and others that
        are being claimed are not among them. `orphans`: how many of them lost their last reader. `limits`: those of
        `new.principal`, see `Principal.limits`.

        Raises TooManyStreams, TooManyOfPrincipal, TooManyOrphans, StoreFull, each with `retry_after_s`; StoreError.
        Cancelled: something may have been evicted.
        """
        policy = self._policy
        if live >= policy.max_live_streams:
            raise _too_many(policy.max_live_streams)
        if orphans >= policy.max_orphan_drains:
            message = f"{orphans} live streams have no reader, the most this server takes"
            raise TooManyOrphans(message, retry_after_s=RETRY_AFTER_S)
        kept = await self._count(new, None, policy.max_live_streams, _too_many(policy.max_live_streams))
        if most := limits.get("max_live_streams"):
            message = f"{most} of your streams are live, the most you may have"
            await self._count(new, new.principal, most, TooManyOfPrincipal(message, retry_after_s=RETRY_AFTER_S))
        if most := limits.get("max_total_bytes"):
            await self._make_room(
                new.principal, most, f"your live streams hold the {most} bytes that you may have kept"
            )
        most = policy.max_total_bytes
        if kept.payload_bytes >= most:
            await self._make_room(None, most, f"live streams hold the {most} bytes that this server keeps")

    async def _count(self, new: NewStream, principal: str | None, most: int, refusal: ResumeStreamError) -> Kept:
        """Of the claims before this one it is not known whether the store counts them yet. With all of them there is
        room, or they have to be waited for, or there are none and the store's word is exact."""
        while True:
            before = list(self._before(new.id, principal))
            kept = await self._store.kept(principal)
            if kept.live + len(before) < most:
                return kept
            if not before:
                raise refusal
            await before[0].decided.wait()

    def _before(self, stream: StreamId, principal: str | None) -> Iterator[_Claim]:
        claims = itertools.takewhile(lambda item: item[0] != stream, self._claims.items())
        return (claim for _, claim in claims if principal in (None, claim.principal))

    async def _make_room(self, principal: str | None, most: int, message: str) -> None:
        if not await self._eviction.down_to(most - 1, principal):
            raise StoreFull(message, retry_after_s=RETRY_AFTER_S)


def _too_many(most: int) -> TooManyStreams:
    return TooManyStreams(f"{most} streams are live, the most this server takes", retry_after_s=RETRY_AFTER_S)

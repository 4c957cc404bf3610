"""What `gc` drops: one walk through a store, beside the sweeps of its servers."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import StreamNotFound
from ..model import Gone, Query, StreamInfo
from ..policy import Policy
from ..ports import LogStore
from .display import Progress, many
from .streams import MAX_PAGE
from .walk import Walk


@dataclass(slots=True)
class Collected:
    """Counts of streams; of bytes, of payload."""

    seen: int = 0
    expired: int = 0
    expired_bytes: int = 0
    forgotten: int = 0
    held: int = 0
    """Expired, and left to the servers: see `collect`."""

    def as_json(self) -> dict[str, int]:
        return {
            "expired": self.expired,
            "expired_bytes": self.expired_bytes,
            "forgotten": self.forgotten,
            "held": self.held,
        }


async def collect(store: LogStore, *, dry_run: bool, progress: Progress) -> Collected:
    """Drop the payloads that expired, then the tombstones that ran out. Nothing is evicted, and the ledger stays whole:
    their caps are the servers' own, which are not known here.

    An expiry cuts no read that was open before it, for `erase_s`, and who reads at a server is not known here either:
    beside one, a payload that expired later than that is left to it.

    Raises StoreError. Cancelled: some of it is done.
    """
    collected, walk = Collected(), Walk(store, Query(limit=MAX_PAGE))
    while page := await walk.page():
        for info in page:
            await _retire(store, info, collected, dry_run=dry_run)
        collected.seen += len(page)
        progress.say(many(collected.seen, "stream"))
    return collected


async def _retire(store: LogStore, info: StreamInfo, collected: Collected, *, dry_run: bool) -> None:
    now = store.now()
    try:
        if not info.gone and now >= info.expires_at:
            if now < info.expires_at + Policy().erase_s and not store.peers.alone():
                collected.held += 1
                return
            size = info.tail
            info = info.tombstone(Gone.EXPIRED, now) if dry_run else await store.purge(info.id, Gone.EXPIRED)
            collected.expired += 1
            collected.expired_bytes += size
        if now >= info.forgets_at:
            if not dry_run:
                await store.forget(info.id)
            collected.forgotten += 1
    except StreamNotFound:  # a server's sweep came first
        return

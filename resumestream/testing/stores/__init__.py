"""What makes a LogStore a LogStore. Imports no test framework: a stranger's store is checked with it as ours are."""

from __future__ import annotations

import anyio

from . import claims, handles, ownership, payload, records, retention
from .checking import Check, Make

CHECK_S = 30
"""How long one check may take before it counts as hanging."""

_TOPICS = (claims, payload, ownership, records, retention, handles)
_CHECKS: tuple[Check, ...] = tuple(check for topic in _TOPICS for check in topic.CHECKS)


async def check_log_store(make: Make) -> None:
    """Hold a store to the contract of `ports.LogStore`. Run it on asyncio and on trio.

    `make` gives a fresh handle, not yet entered, to the same storage each time: what a second process would open to
    serve it. The storage may hold other streams; of its ledger, calls from before are dropped. Raises AssertionError
    with a sentence that says what is wrong.
    """
    for check in _CHECKS:
        with anyio.fail_after(CHECK_S):
            async with make() as store:
                await store.probe()
                await check(make, store)
    with anyio.fail_after(CHECK_S):
        await handles.closing_keeps_everything(make)

"""Whether this process takes new streams: `/readyz`, and the metric that says the same."""

from __future__ import annotations

from ..errors import StoreError
from ..hub import Hub


async def unready(hub: Hub) -> str:
    """Why not; empty where it does, and the store can write."""
    if hub.draining:
        return "draining"
    try:
        await hub.store.probe()
    except StoreError as error:
        return error.message
    return ""

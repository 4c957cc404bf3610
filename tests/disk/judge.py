"""What must be found in a store, given what its workload was told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .stores import KEYED, PURGED

Said = Sequence[tuple[str, str, int]]


def complaints(said: Said, found: dict[str, Any], *, all_kept: bool = True) -> list[str]:
    """What is wrong, a sentence each. `all_kept`: everything acknowledged is promised; else only what is at disk level
    under every Policy: claims of keyed streams, further calls and seals with all payload below them, and what was
    purged."""
    if "unusable" in found:
        return [f"the store cannot be opened: {found['unusable']}"]
    wrong = [*found["refused"], *found["damage"]]
    for name, stream in found["streams"].items():
        wrong += [f"{name}: {what}" for what in _of_stream(name, stream, said, all_kept=all_kept)]
    missing = "missing" in found["streams"][KEYED]
    if found["keys"][KEYED] != (None if missing else KEYED):
        wrong.append(f"the key means {found['keys'][KEYED]}, and its stream is {'not ' * missing}there")
    return wrong


def _of_stream(name: str, stream: dict[str, Any], said: Said, *, all_kept: bool) -> list[str]:
    told = {what: at for what, of, at in said if of == name}  # the last of each
    if not all_kept:
        kept = {"send", "call", "seal", "purge"} | ({"create"} if name == KEYED else set())
        told = {what: at for what, at in told.items() if what in kept}
    acknowledged = max((told[what] for what in ("create", "append", "call", "seal") if what in told), default=-1)
    if "error" in stream:
        return [stream["error"]]
    if "missing" in stream:
        return ["it is lost"] if acknowledged >= 0 or "purge" in told else []
    wrong = []
    if not acknowledged <= stream["tail"] <= told.get("send", -1):
        wrong.append(f"{acknowledged} acknowledged, {stream['tail']} there, {told.get('send')} sent")
    if "call" in told and stream["calls"] < 2:
        wrong.append("a call that may have been made is not in the record")
    if "seal" in told and not (stream["seal"] and stream["tail"] == told["seal"]):
        wrong.append(f"it was sealed at {told['seal']}; now: {stream}")
    if "purge" in told and not stream["gone"]:
        wrong.append("it was purged and is back")
    if stream["gone"]:
        return wrong if name == PURGED and "read" not in stream else [*wrong, "its payload is gone"]
    if stream["wrong"]:
        wrong.append("other bytes than were sent")
    if stream["read"] != stream["tail"]:
        wrong.append(f"{stream['read']} of {stream['tail']} bytes can be read")
    return wrong

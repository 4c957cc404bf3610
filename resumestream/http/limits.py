"""What a request may be before anything looks at it: its size, and one meaning of where it ends."""

from __future__ import annotations

from starlette.types import Scope

from ..errors import AmbiguousFraming, HeadTooLarge, TargetTooLong

HEADER_BYTES = 32
"""What a header costs beside its text, as HTTP/2 counts it (RFC 9113 §6.5.2): a hundred thousand empty ones are no
small request."""


def check_head(scope: Scope, most: int) -> None:
    """Raises TargetTooLong, HeadTooLarge, AmbiguousFraming."""
    size = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b""))
    if size > most:
        raise TargetTooLong(f"Path and query are {size} bytes; {most} is the most for them and the headers together.")
    for name, value in scope["headers"]:
        size += len(name) + len(value) + HEADER_BYTES
        if size > most:
            raise HeadTooLarge(
                f"Path, query and headers are over {most} bytes, each header counted as {HEADER_BYTES} more than it "
                f"has; there are {len(scope['headers'])} headers."
            )
    framings = [name for name, _ in scope["headers"] if name in (b"content-length", b"transfer-encoding")]
    if len(framings) > 1:
        raise AmbiguousFraming(
            "Content-Length and Transfer-Encoding exclude each other, and each may be there once: another server on "
            "the way could see another end of the body."
        )

"""Payload in files: live streams in segments, sealed ones in packs. The catalog says which byte is where."""

from .payload import FilePayload

__all__ = ["FilePayload"]

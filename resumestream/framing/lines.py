"""Records that end with LF, as in NDJSON. A CR before it belongs to the record."""

from __future__ import annotations


class LineSplitter:
    """Cuts a byte stream into lines as it arrives; how it was cut into pieces makes no difference."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def held(self) -> int:
        """Bytes of the line that has not ended."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` ends, each with its LF."""
        buffer = self._buffer
        end = data.rfind(b"\n") + 1
        if not end:
            buffer += data
            return []
        buffer += data[:end]
        lines = [line + b"\n" for line in bytes(buffer).split(b"\n")[:-1]]
        self._buffer = bytearray(data[end:])
        return lines

    def rest(self) -> bytes:
        """What is held: a line without its LF."""
        return bytes(self._buffer)

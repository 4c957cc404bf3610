"""Amazon Bedrock: ConverseStream, and InvokeModelWithResponseStream whatever the model says in it."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from typing import Any

from ..framing import MESSAGES
from ..framing.messages import headers_of, message_of, payload_of
from ..ports import Dialect, Mark, Scanner
from .payload import describe, parse
from .scanning import Telling

_TOLD = re.compile(rb":message-type\x07\x00.(?!event)|messageStop|metadata", re.DOTALL)
_METRICS = "amazon-bedrock-invocationMetrics"
# The same in base64, at each of the three places that it can have in a group of three bytes, without the characters
# that its neighbours share: so the last chunk is found without decoding all before it.
_LAST_CHUNK = re.compile(
    b"|".join(b64encode(bytes(at) + _METRICS.encode())[shared:-4] for at, shared in enumerate((0, 2, 3)))
)


class Bedrock(Dialect):
    """Ends with `metadata`, or with a framed end after `messageStop`; an invoked model's own answer with the chunk that
    has its metrics. A client may refuse or hand on a message it does not know, so there is no keep-alive."""

    name = "bedrock"
    framing = MESSAGES
    endpoint = re.compile(r"/(?:converse-stream|invoke-with-response-stream)$")
    known = re.compile(rb":event-type\x07\x00.(?:messageSt|contentBlock|metadata|chunk)", re.DOTALL)

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises EventStreamError, an exception that both operations declare."""
        kind = {
            ":exception-type": "internalServerException",
            ":content-type": "application/json",
            ":message-type": "exception",
        }
        return message_of(kind, json.dumps({"message": message, "code": code}).encode())


class _Scanner(Telling):
    def __init__(self) -> None:
        super().__init__()
        self._stopped = False

    def scan(self, block: bytes) -> Mark:
        if _LAST_CHUNK.search(block):
            return self._last_chunk(block)
        return self._read(block) if _TOLD.search(block) else Mark.EVENT

    def _read(self, block: bytes) -> Mark:
        headers = headers_of(block)
        if headers.get(":message-type") in ("exception", "error"):
            said = parse(payload_of(block)).get("message") or headers.get(":error-message")
            self.error = describe(headers.get(":exception-type") or headers.get(":error-code") or said)
            return Mark.ERROR
        kind = headers.get(":event-type")
        self._stopped = self._stopped or kind == "messageStop"
        if kind != "metadata":
            return Mark.EVENT
        self._tell(parse(payload_of(block)))
        return Mark.END

    def _last_chunk(self, block: bytes) -> Mark:
        encoded = parse(payload_of(block)).get("bytes")
        try:
            body = parse(b64decode(encoded)) if isinstance(encoded, str) else {}
        except ValueError:
            body = {}
        if not isinstance(body.get(_METRICS), dict):
            return self._read(block)
        self._tell({"usage": body[_METRICS]})
        return Mark.END

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        return body.get("usage"), None

    def ends_at_framed_end(self) -> bool:
        return self._stopped

"""The demo's caller: a program that knows nothing of resumestream, written with Python's own HTTP client alone.

`python caller.py URL KEY` sends one chat completion and tells what it receives, a JSON object a line: the head, then
after each read how much came so far, and at the end of the body `done`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import time
from urllib.parse import urlsplit

QUESTION = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Tell me a long story."}]}


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def main() -> None:
    url, key = urlsplit(sys.argv[1]), sys.argv[2]
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    began = time.perf_counter()
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    connection.request("POST", url.path, json.dumps(QUESTION), headers)
    response = connection.getresponse()
    replayed = response.getheader("Idempotent-Replayed") == "true"
    say(status=response.status, stream=response.getheader("Stream-Id"), replayed=replayed)
    digest, size, events, rest = hashlib.sha256(), 0, 0, b""
    while data := response.read1(65536):
        digest.update(data)
        size += len(data)
        *whole, rest = (rest + data).split(b"\n\n")
        events += len(whole)
        say(events=events, bytes=size, sha256=digest.hexdigest(), seconds=time.perf_counter() - began)
    say(done=True)


if __name__ == "__main__":
    main()

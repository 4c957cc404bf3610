"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import random
import socket
import sys
from collections import deque

LOWEST, HIGHEST = 15_000, 30_000
"""Below those that systems give to outgoing connections (32768 on, on Linux): any of those may be taken in the moment
between the look and the server's start."""
HELD = 64
"""More than one scenario has."""

_held: deque[socket.socket] = deque()


def free_port() -> int:
    """One that nobody has on the loopback address, and that nobody who asks here gets, in any process, before the next
    `HELD` of this process."""
    while True:
        port = random.SystemRandom().randint(LOWEST, HIGHEST)
        found = socket.socket()
        try:
            found.bind(("127.0.0.1", port))
        except OSError:
            found.close()
            continue
        if sys.platform == "linux":
            # Bound and never listening, it is in the way of those alone who do not say SO_REUSEADDR: of this function.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _held.append(found)
            if len(_held) > HELD:
                _held.popleft().close()
        else:
            found.close()
        return port

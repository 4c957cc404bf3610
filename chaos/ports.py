"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 15_000, 30_000
"""Below those that systems give to outgoing connections (32768 on, on Linux): any of those may be taken in the moment
between the look and the server's start."""


def free_port() -> int:
    """One that nobody has on the loopback address."""
    while True:
        port = random.SystemRandom().randint(LOWEST, HIGHEST)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue

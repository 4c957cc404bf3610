"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import contextlib
import random
import socket

LOWEST, HIGHEST = 15_000, 30_000
"""Below those that systems give to outgoing connections (32768 on, on Linux): any of those may be taken in the moment
between the look and the server's start."""

TIMEOUT_S = 3.0


class Port:
    """A TCP port of the loopback address that nobody has, and that no other run of ours takes until `close`.

    What keeps others off is the UDP port of that number: the server leaves it alone, and it is free again when we are
    gone, however that was.
    """

    def __init__(self) -> None:
        while True:
            self.number = random.SystemRandom().randint(LOWEST, HIGHEST)
            self._mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with contextlib.suppress(OSError):
                self._mark.bind(("127.0.0.1", self.number))
                with socket.create_server(("127.0.0.1", self.number)):
                    return
            self._mark.close()

    def taken(self) -> bool:
        """Whether somebody listens at it by now."""
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", self.number), TIMEOUT_S),
        ):
            return True
        return False

    def close(self) -> None:
        self._mark.close()

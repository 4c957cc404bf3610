"""Ports for servers: one each, however many harnesses there are, and the same one over restarts."""

from __future__ import annotations

import socket
import sys

import pytest

from chaos import ports


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a bound port is in the way of its server, too")
def test_who_has_a_port_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is given it, before its server starts, or after that died; and that server can have it again."""
    port = ports.free_port()
    drawn: list[int] = []
    monkeypatch.setattr(ports.random.SystemRandom, "randint", lambda *_: drawn.pop())
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # leaves TIME_WAIT behind
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        drawn += [port, port]
        with pytest.raises(IndexError):
            ports.free_port()


def test_not_all_are_held_for_ever() -> None:
    assert len({ports.free_port() for _ in range(3 * ports.HELD)}) > 2 * ports.HELD
    assert len(ports._held) <= ports.HELD

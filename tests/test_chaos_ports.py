"""Ports that two runs at once do not both take."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from chaos import ports
from chaos.ports import Port


def test_a_port_is_one_runs_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its server starts, while that is up, and over its restarts."""
    with closing(Port()) as only:
        monkeypatch.setattr(ports, "LOWEST", only.number)
        monkeypatch.setattr(ports, "HIGHEST", only.number + 200)
        others = [Port() for _ in range(50)]
        assert len({port.number for port in (only, *others)}) == 51
        for port in others:
            port.close()
    monkeypatch.setattr(ports, "HIGHEST", only.number)
    with closing(Port()) as again:
        assert again.number == only.number


def test_who_listens_is_seen() -> None:
    with closing(Port()) as port:
        assert not port.taken()
        with socket.create_server(("127.0.0.1", port.number)):
            assert port.taken()

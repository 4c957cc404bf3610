"""What each fault does on the wire, as both ends see it, with a real toxiproxy-server."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import toxiproxy.api

from chaos.process import Failed
from chaos.toxics import Link, NoServer, Toxiproxy, find_server

DEADLINE_S = 10.0
BODY = bytes(range(256)) * 40
"""Not periodic in any size that a toxic cuts by."""


class Wire:
    """Two sockets with a link between: `near` connected to it, `far` is what it leads to."""

    def __init__(self, proxy: Toxiproxy) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(DEADLINE_S)
        self.link: Link = proxy.link("wire", f"http://127.0.0.1:{self.server.getsockname()[1]}")

    def connect(self) -> tuple[socket.socket, socket.socket]:
        near = socket.create_connection(self.address, DEADLINE_S)
        far, _ = self.server.accept()
        far.settimeout(DEADLINE_S)
        return near, far

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.link.url.removeprefix("http://").partition(":")
        return host, int(port)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with Toxiproxy(tmp_path / "toxiproxy.log") as proxy:
        wire = Wire(proxy)
        with wire.server:
            yield wire


def received(end: socket.socket, size: int = 10**9) -> bytes:
    """Up to that size, or to FIN. Raises ConnectionResetError."""
    data = b""
    while len(data) < size and (more := end.recv(size - len(data))):
        data += more
    return data


def nothing_comes(end: socket.socket, seconds: float = 0.3) -> bool:
    return not select.select([end], [], [], seconds)[0]


def refused(wire: Wire) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(wire.address, DEADLINE_S):
        return False
    return True


def test_nothing_changes_anything(wire: Wire) -> None:
    near, far = wire.connect()
    with near, far:
        far.sendall(BODY)
        near.sendall(b"request")
        assert received(far, 7) == b"request"
        assert received(near, len(BODY)) == BODY


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_cut_after_ends_with_fin_at_that_byte(wire: Wire, size: int) -> None:
    wire.link.cut_after(size)
    near, far = wire.connect()
    with near, far:
        far.sendall(BODY)
        assert received(near) == BODY[:size]
        assert received(far) == b""


def test_cut_after_counts_from_when_it_was_asked(wire: Wire) -> None:
    near, far = wire.connect()
    with near, far:
        far.sendall(BODY)
        assert received(near, len(BODY)) == BODY
        wire.link.cut_after(10)
        far.sendall(BODY)
        assert received(near) == BODY[:10]


def test_cut_is_fin_for_both(wire: Wire) -> None:
    near, far = wire.connect()
    with near, far:
        far.sendall(BODY)
        assert received(near, len(BODY)) == BODY
        wire.link.cut()
        assert received(near) == b""
        assert received(far) == b""


def test_cut_is_rst_for_both_where_armed(wire: Wire) -> None:
    """In mid-stream, with all bytes before it delivered."""
    wire.link.arm()
    near, far = wire.connect()
    with near, far:
        far.sendall(BODY)
        assert received(near, len(BODY)) == BODY
        wire.link.cut()
        with pytest.raises(ConnectionResetError):
            received(near)
        with pytest.raises(ConnectionResetError):
            received(far)


def test_cut_after_is_rst_where_armed(wire: Wire) -> None:
    wire.link.arm()
    wire.link.cut_after(1000)
    near, far = wire.connect()
    with near, far:
        far.sendall(BODY)
        with pytest.raises(ConnectionResetError):
            received(near)


def test_who_is_armed_too_late_gets_fin(wire: Wire) -> None:
    near, far = wire.connect()
    with near, far:
        far.sendall(b"x")
        assert received(near, 1) == b"x"
        wire.link.arm()
        wire.link.cut()
        assert received(near) == b""


def test_cut_refuses_until_mend(wire: Wire) -> None:
    before = wire.address
    wire.link.cut()
    assert refused(wire)
    wire.link.mend()
    assert wire.address == before
    near, far = wire.connect()
    with near, far:
        far.sendall(BODY)
        assert received(near, len(BODY)) == BODY


def test_stall_holds_everything_back_and_heal_loses_nothing(wire: Wire) -> None:
    near, far = wire.connect()
    with near, far:
        far.sendall(b"x")
        assert received(near, 1) == b"x"
        wire.link.stall()
        far.sendall(BODY)
        near.sendall(BODY)
        assert nothing_comes(near)
        assert nothing_comes(far)
        wire.link.heal()
        assert received(near, len(BODY)) == BODY
        assert received(far, len(BODY)) == BODY


def test_trickle_comes_in_small_pieces(wire: Wire) -> None:
    wire.link.trickle(7, delay_us=2000)
    near, far = wire.connect()
    with near, far:
        far.sendall(BODY[:700])
        pieces = [near.recv(65536)]
        while sum(map(len, pieces)) < 700:
            pieces.append(near.recv(65536))
        assert b"".join(pieces) == BODY[:700]
        assert len(pieces[0]) <= 7
        assert len(pieces) > 10  # a busy machine may read several at once


def test_what_toxiproxy_refuses_is_raised(wire: Wire, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="toxic not found"):
        wire.link.remove("bandwidth")
    wire.link.stall()
    with pytest.raises(Exception, match="toxic already exists"):
        wire.link.stall()


def test_a_port_that_is_taken_is_told(wire: Wire) -> None:
    """The client itself would say that all is well."""
    wire.link.cut()
    with socket.create_server(wire.address), pytest.raises(Failed):
        wire.link.mend()


def test_proxies_of_the_environment_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Toxiproxy(tmp_path / "toxiproxy.log") as proxy:
        assert proxy.link("wire", "http://127.0.0.1:1").url


def test_a_server_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.toxics.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Failed, match="timed out"):
        toxiproxy.api.requests.get(f"http://127.0.0.1:{silent.getsockname()[1]}/version")


def test_no_server_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOXIPROXY_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoServer, match=r"none is on PATH and .TOXIPROXY_SERVER is not set.*go install.*nox -s chaos"):
        find_server()
    monkeypatch.setenv("TOXIPROXY_SERVER", str(tmp_path / "missing"))
    with pytest.raises(NoServer, match=r"TOXIPROXY_SERVER is .*missing"):
        find_server()


def test_a_server_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "toxiproxy-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.delenv("TOXIPROXY_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == str(binary)

"""The address a server listens on."""

from __future__ import annotations

import logging
import os
import socket
from ipaddress import ip_address

from ..errors import ConfigError, ResumeStreamError

logger = logging.getLogger("resumestream")


def bound(host: str, port: int) -> socket.socket:
    """A socket that refuses connections until a server listens on it. Raises ResumeStreamError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise ConfigError(f"--host {host!r} is no address of this machine") from None
    listener = socket.socket(family, kind, protocol)
    if os.name == "posix":  # elsewhere it would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ResumeStreamError(
            f"cannot listen on {url(host, port)} ({error.strerror}); choose another --port, or 0 for a free one"
        ) from None
    if not ip_address(str(address[0])).is_loopback:
        logger.warning(
            "listening beyond this machine: whoever reaches %s may start calls with a provider key of their own; "
            "requests without one are refused. There is no TLS here: put it in front",
            host,
        )
    return listener


def url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

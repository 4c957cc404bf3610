"""A real toxiproxy-server, one a scenario, with its client's faults contained.

What each toxic does on the wire was measured with server 2.12.0:

* `reset_peer` of toxicity 0 only arms SO_LINGER on links made after it; then cutting them sends RST, not FIN.
* `limit_data` counts from the moment it is added.
* A toxic must not be removed while a slow reader keeps a link full, nor after a stalled link was cut: the server then
  hangs. So nothing here resets a server, and its end is SIGTERM.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal, Self

import requests
import toxiproxy
import toxiproxy.api

from .ports import Port
from .process import Failed, Process

Direction = Literal["upstream", "downstream"]
"""`upstream`: from the one who connected. `downstream`: to it."""

TIMEOUT_S = 3.0


class NoServer(Exception):
    """There is no toxiproxy-server to run."""


def find_server() -> str:
    """`$TOXIPROXY_SERVER`, else the one on PATH. Raises NoServer."""
    named = os.environ.get("TOXIPROXY_SERVER")
    found = shutil.which(named or "toxiproxy-server")
    if found is None:
        where = f"$TOXIPROXY_SERVER is {named!r}" if named else "none is on PATH and $TOXIPROXY_SERVER is not set"
        raise NoServer(
            f"no toxiproxy-server: {where}. `go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0` makes one "
            "(the binary is called `server`); `nox -s chaos` does so by itself."
        )
    return found


class _Calm(requests.Session):
    """What the client takes for the requests module: no proxies of the environment, deadlines, errors that raise."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            response = super().request(*args, **{"timeout": TIMEOUT_S, **kwargs})
            if response.status_code >= 500:
                response.raise_for_status()
        except requests.RequestException as error:
            raise Failed(f"toxiproxy does not do as it is told: {error}") from error
        return response


toxiproxy.api.requests = _Calm()


class Link:
    """One proxy: who connects to `url` comes out at the address behind it, with what was put between."""

    def __init__(self, proxy: Any, url: str, api: str) -> None:
        self._proxy, self.url, self._api = proxy, url, f"{api}/proxies/{proxy.name}"

    def add(self, kind: str, direction: Direction = "downstream", *, toxicity: float = 1.0, **attributes: int) -> None:
        """One toxic of a kind and direction; `attributes` as toxiproxy names them."""
        name = f"{kind}_{direction}"
        self._proxy.add_toxic(type=kind, stream=direction, name=name, toxicity=toxicity, attributes=attributes)

    def remove(self, kind: str, direction: Direction = "downstream") -> None:
        if not self._proxy.destroy_toxic(f"{kind}_{direction}"):
            raise Failed(f"toxiproxy did not remove {kind} ({direction}) from {self._proxy.name}")

    # --- faults, by what they do ---------------------------------------------------------------------------------

    def arm(self) -> None:
        """Links made from now on are cut with RST."""
        for direction in ("upstream", "downstream"):
            self.add("reset_peer", direction, toxicity=0, timeout=0)

    def cut(self) -> None:
        """End all links, with FIN or as armed; who connects is refused until `mend`."""
        self._set_enabled(False)

    def mend(self) -> None:
        self._set_enabled(True)

    def cut_after(self, size: int) -> None:
        """Each link ends after so many more bytes of what comes back, heads and framing included."""
        self.add("limit_data", bytes=size)

    def uncut(self) -> None:
        self.remove("limit_data")

    def time_out(self, after_ms: int) -> None:
        """What comes back is lost, and its sender is not told; after so long without any, the links end."""
        self.add("timeout", timeout=after_ms)

    def stall(self) -> None:
        """Nothing passes in either direction, nothing is lost, nobody is told."""
        for direction in ("upstream", "downstream"):
            self.add("bandwidth", direction, rate=0)

    def heal(self) -> None:
        """After `stall`. Only while every reader reads, and nothing was cut meanwhile."""
        for direction in ("upstream", "downstream"):
            self.remove("bandwidth", direction)

    def trickle(self, size: int = 7, delay_us: int = 500) -> None:
        self.add("slicer", average_size=size, size_variation=0, delay=delay_us)

    def _set_enabled(self, enabled: bool) -> None:
        response = toxiproxy.api.requests.post(self._api, json={"enabled": enabled})
        if response.status_code != 200 or response.json()["enabled"] is not enabled:
            raise Failed(f"toxiproxy answers {response.status_code} {response.text} to enabled={enabled}")


class Toxiproxy:
    """`with Toxiproxy(log) as server: link = server.link("provider", url)`."""

    def __init__(self, log: Path) -> None:
        self._port = Port()
        self._process = Process([find_server(), "-host", "127.0.0.1", "-port", str(self._port.number)], log)
        try:
            self._process.wait_until(self._port.taken, "listened")  # it says so before it does
        except BaseException:
            self._port.close()
            raise
        self._api = f"http://127.0.0.1:{self._port.number}"
        self._client = toxiproxy.Toxiproxy()
        self._client.update_api_consumer("127.0.0.1", self._port.number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._port.close()

    def link(self, name: str, url: str, *, port: int = 0) -> Link:
        """From that port, or else a free one, to the server at `url`."""
        address = url.removeprefix("http://").partition("/")[0]
        proxy = self._client.create(upstream=address, name=name, listen=f"127.0.0.1:{port}", enabled=True)
        return Link(proxy, f"http://{proxy.listen}", self._api)

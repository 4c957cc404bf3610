"""Connections are used again only where that cannot cost a billable call."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest

from resumestream.errors import UpstreamLost
from resumestream.upstream import pool as pool_module

from .scripted_peer import Peer, Script, Server, answering, serving
from .test_upstream import BODY, CHUNKED, SIZED, UNFRAMED, call, in_time, lost, said, whole

pytestmark = pytest.mark.anyio

"""resumestream in an ASGI application, configured by `$CHAOS_TARGET`; run by any ASGI server as its own process.

The one place that imports the server under test: it is what the harness starts, not part of it.
"""

from __future__ import annotations

import json
import os

from starlette.applications import Starlette

from resumestream import Policy, ResumeStream, Upstream

config = json.loads(os.environ["CHAOS_TARGET"])
upstreams = {name: Upstream(**options) for name, options in config["upstreams"].items()}
streams = ResumeStream(config["store"], upstreams, Policy(**config["policy"]))
app = Starlette()
streams.install(app, "/llm")

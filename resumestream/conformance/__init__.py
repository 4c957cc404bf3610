"""Black-box checks of "Resilient inference streams over HTTP" (docs/spec), by requirement id, over HTTP alone.

    python -m resumestream.conformance http://127.0.0.1:8787 --upstream-port 9901

checks any implementation. The suite is itself what the implementation calls: it plays the provider that the upstreams
named in `levels` lead to, so that what was asked of it, and how often, is known for sure. Of this package it uses the
scripted provider and nothing else; the names of headers, codes and outcomes are written out in the checks, so that a
name that changed is a failure.
"""

"""Servers that are wrong on purpose, one fault each, and the requirements of which at least one must tell it."""

from .details import WRONG as DETAILS
from .failures import WRONG as FAILURES
from .fault import Wrong as Wrong
from .gateway import WRONG as GATEWAY
from .limits import WRONG as LIMITS
from .streams import WRONG as STREAMS

WRONG = {**GATEWAY, **STREAMS, **FAILURES, **LIMITS, **DETAILS}
"""Name → what is wrong."""

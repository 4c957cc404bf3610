"""Who may see what operators see."""

from __future__ import annotations

from starlette.requests import Request

from ..errors import NotFound, Unauthorized
from ..model import Principal
from .site import Site

NOTHING = "Nothing answers here. There is /{upstream}/{path}, /streams, /healthz and /readyz."
"""What is said of every path without a face; so nobody tells by it whether operators have one."""


async def operator(site: Site, request: Request, *, whole_app: bool) -> Principal:
    """Whom the request acts for. `whole_app`: no host app lies around the faces.

    In a host app there is nothing here, unless its hook admits the caller: raises NotFound. Otherwise raises
    Unauthorized, AuthorizeRequired.
    """
    nothing = NotFound(NOTHING)
    if not whole_app and site.access.authorize is None:
        raise nothing
    try:
        # As where a credential of ours is spent: whoever shows one of their own is no operator for that
        return await site.access.principal(request, "operate", server_side=True, keyed=False)
    except Unauthorized:
        if whole_app:
            raise
        raise nothing from None

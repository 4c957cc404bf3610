"""Who may see what operators see."""

from __future__ import annotations

from starlette.requests import Request

from ..errors import NotFound, Unauthorized
from ..model import Principal
from .site import Site

NOTHING = "Nothing answers here. There is /{upstream}/{path}, /streams, /healthz and /readyz."
"""What is said of every path without a face; so nobody tells by it whether operators have one."""


async def operator(site: Site, request: Request, *, whole_app: bool, everybodys: bool = False) -> Principal:
    """Whom the request acts for. `whole_app`: no host app lies around the faces; `everybodys`: what is shown is not one
    principal's own, so whom a hook admits must be an admin.

    In a host app there is nothing here, unless its hook admits the caller: raises NotFound. Otherwise raises
    Unauthorized, AuthorizeRequired.
    """
    nothing = NotFound(NOTHING)
    if not whole_app and site.access.authorize is None:
        raise nothing
    try:
        # As where a credential of ours is spent: whoever shows one of their own is no operator for that
        principal = await site.access.principal(request, "operate", server_side=True, keyed=False)
        if everybodys and site.access.authorize is not None and not principal.admin:
            raise Unauthorized("This is about everybody: the authorize hook must return an admin for operate.")
    except Unauthorized:
        if whole_app:
            raise
        raise nothing from None
    return principal

"""How the processes that serve one store know of each other. Knows nothing of what the store keeps, or how."""

from .alone import Alone
from .files import FilePeers
from .network import refuse_network
from .onlooker import Onlooker
from .page import Page, boot_id

__all__ = ["Alone", "FilePeers", "Onlooker", "Page", "boot_id", "refuse_network"]

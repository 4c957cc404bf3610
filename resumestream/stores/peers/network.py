"""File systems that other machines see as well: neither locks nor mapped pages hold on them."""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import StoreUnusable

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|coda|lustre|glusterfs|gpfs|beegfs|orangefs|pvfs2|gfs2?|ocfs2|ncpfs?|vboxsf|vmhgfs"
    r"|prl_fs|fuse\.(sshfs|glusterfs|ceph\S*|nfs\S*|smb\S*|s3\S*|rclone|gcsfuse|goofys|juicefs|mfs|davfs\S*|vmhgfs\S*)"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def refuse_network(path: Path, *, mounts: Path = MOUNTS) -> None:
    """Raises StoreUnusable where `path`, which need not be there yet, is on a network file system. Says nothing on
    platforms that have no `mounts`."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    path = path.resolve()
    place, kind = Path("/"), ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mounted = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), left.split(" ")[4]))
        # The longest prefix is the mount; of two at one place the later one hides the earlier.
        if path.is_relative_to(mounted) and len(mounted.parts) >= len(place.parts):
            place, kind = mounted, right.split(" ")[0]
    if _NETWORK.fullmatch(kind):
        raise StoreUnusable(
            f"{path} is on a network file system ({kind}, mounted at {place}), where locks do not prove that a process "
            "is dead; put the store on a local disk"
        )

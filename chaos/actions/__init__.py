"""What can be done to a stage: one small value each, so that a scenario lists them, and a campaign draws them.

What has a number takes a `Between` as well where it says so: then the cell draws it.
"""

from __future__ import annotations

from .action import Action
from .callers import Post
from .clock import Pass
from .crowds import Load, Loaded, Race, Reconnect
from .disk import FillDisk, FreeDisk
from .links import Arm, Cut, CutAfter, Heal, Mend, OnLink, Stall, TimeOut, Trickle, Uncut
from .provider import Finished, Held, Lost, Played, Release, Script
from .readers import Answered, Attached, CaughtUp, Ended, Leave, Pause, Read, Resume, Until
from .sdks import Call, Heard, Hears, KillCaller
from .streams import Cancel, Sealed, Trespass
from .workers import Freeze, Gone, Kill, OnWorker, Start, Stop, Terminate, Thaw

__all__ = [
    "Action",
    "Answered",
    "Arm",
    "Attached",
    "Call",
    "Cancel",
    "CaughtUp",
    "Cut",
    "CutAfter",
    "Ended",
    "FillDisk",
    "Finished",
    "FreeDisk",
    "Freeze",
    "Gone",
    "Heal",
    "Heard",
    "Hears",
    "Held",
    "Kill",
    "KillCaller",
    "Leave",
    "Load",
    "Loaded",
    "Lost",
    "Mend",
    "OnLink",
    "OnWorker",
    "Pass",
    "Pause",
    "Played",
    "Post",
    "Race",
    "Read",
    "Reconnect",
    "Release",
    "Resume",
    "Script",
    "Sealed",
    "Stall",
    "Start",
    "Stop",
    "Terminate",
    "Thaw",
    "TimeOut",
    "Trespass",
    "Trickle",
    "Uncut",
    "Until",
]

"""DEATH: what must hold when the server dies. A run has no hand on the server's process: it neither kills it nor looks
into its store."""

from __future__ import annotations

from ..registry import exempt

exempt("RS-DEATH-01", "The order of a write to the store and a write to the upstream shows only where one is cut off.")
exempt("RS-DEATH-02", "It takes a kill, or a power cut, between a read and the next one.")
exempt("RS-DEATH-03", "It takes a crash while a call is running.")
exempt("RS-DEATH-04", "It takes a process that dies while its stream is live.")
exempt("RS-DEATH-05", "It takes a restart between two requests of one check.")
exempt("RS-DEATH-06", "It takes a restart between two reads of one check.")
exempt("RS-DEATH-07", "It takes several processes on one store, one of them frozen.")
exempt("RS-DEATH-08", "It takes a kill while an answer is open.")

"""Random cuts and damage on every transcript there is, through framing, dialects and readings."""

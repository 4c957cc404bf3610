"""What the conformance suite is tried on: a right server, and wrong ones."""

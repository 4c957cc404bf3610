"""The real Hub, its drains, tails, recovery and takeovers, on a simulated store, provider and network: one process, one
thread, a clock that jumps, and every choice drawn from a seed."""

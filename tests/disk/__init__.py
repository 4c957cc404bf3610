"""Disks that fail: a preloaded shim, a small workload in a process of its own, and what a power cut leaves."""

"""Servers to aim at."""

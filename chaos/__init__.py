"""Chaos for servers of resilient inference streams: real faults, watched from outside.

It touches sockets and process ids alone: nothing here imports the server it is aimed at.
"""

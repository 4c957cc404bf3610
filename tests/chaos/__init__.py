"""What needs a toxiproxy-server and real processes: the session `chaos` runs it."""

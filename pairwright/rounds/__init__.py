"""The road gone several times, each time from the newest policy."""

"""A real Argilla (its API and its web page) on this machine, from pip packages alone."""

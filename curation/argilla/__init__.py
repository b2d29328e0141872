"""Labelling in Argilla: datasets out, answers back, and the server that runs on this machine."""

"""The records that travel the road, the interfaces that move them, and where they are kept."""

SCHEMA_VERSION = 1
"""Version of every stored record; a manifest that carries another one is refused."""

"""Every connection to the database: its pragmas, and the functions that SQL calls."""

import hashlib
import json
import sqlite3
from functools import lru_cache
from typing import Any

import numpy as np

from .words import column_texts

_PRAGMAS = (
    "journal_mode = WAL",  # readers and the one writer do not wait for each other
    "synchronous = FULL",  # an answer that was acknowledged survives a power cut, too
    "cache_size = -65536",
    "temp_store = MEMORY",
    "trusted_schema = ON",  # triggers call our functions
)


def prepare(connection: Any) -> None:
    """Set the pragmas and functions on a connection of sqlite3, or one that adapts it."""
    connection.create_function("pairwright_words", 3, words)
    connection.create_function("pairwright_shuffle", 1, shuffle)
    connection.create_function("pairwright_cosine", 2, cosine)
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def open_database(path: str) -> sqlite3.Connection:
    """A connection of our own to a database, with everything that our SQL needs."""
    connection = sqlite3.connect(path, timeout=30)
    prepare(connection)
    return connection


def words(fields: str, names: str, column: int) -> str | None:
    """The text of one column of the index for a record."""
    return column_texts(fields, names)[column]


def shuffle(record: str) -> int:
    """A number in [0, 2**31 - 1) that says nothing of the record and stays the same."""
    digest = hashlib.blake2b(record.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (2**31 - 1)


def cosine(stored: str, asked: str) -> float:
    """The score OpenSearch gives two vectors (JSON) by their cosine: (1 + cos) / 2."""
    return float((1.0 + _unit(stored) @ _unit_kept(asked)) / 2.0)


def _unit(vector: str) -> np.ndarray:
    values = np.asarray(json.loads(vector), dtype=np.float64)
    return values / (np.linalg.norm(values) or 1.0)


_unit_kept = lru_cache(maxsize=8)(_unit)

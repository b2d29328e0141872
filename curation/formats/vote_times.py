"""When the answers of a table were given, where it says so."""

import contextlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from curation.formats.vote_cells import NumberedRows

_TIMES = ("updated_at", "submitted_at", "created_at", "timestamp", "tstamp")


def in_time(rows: NumberedRows) -> NumberedRows:
    """The rows from the earliest to the latest; as they stand where one has no time to go by.

    Exports often begin with the newest answer, and an annotator's latest is the one that counts.
    """
    names = {name.casefold(): name for _, row in rows for name in row}
    for column in (names[name] for name in _TIMES if name in names):
        times = [_moment(row, column) for _, row in rows]
        known = [time for time in times if time is not None]
        if len(known) == len(rows):
            order = sorted(range(len(rows)), key=known.__getitem__)
            return [rows[place] for place in order]
    return rows


def _moment(row: Mapping[str, Any], column: str) -> float | None:
    """Seconds, or another number that grows with time; a time without a zone is UTC."""
    value = row.get(column)
    with contextlib.suppress(TypeError, ValueError):
        number = float(value)  # type: ignore[arg-type]
        return number if math.isfinite(number) else None
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()

"""Rows for the gate out of a file of preferences."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from curation.formats.json_values import RowError
from curation.formats.rated import check_signals, number_of, rated_answers
from curation.formats.rows import RawFileRow, preference_rows
from curation.validation.row import Failure, RawRow

_RATING_COLUMNS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)


def rows_from_file(path: Path, *, fix: bool = False) -> Iterator[RawRow]:
    """One row a preference of the file, in its order; what cannot be read carries its error.

    Columns `p_chosen`, `weight` and `margin` are read where the file has them, and ratings under
    the names that common datasets give them. `fix` takes repeated prompts off the answers and
    puts U+FFFD in the place of half characters.

    Raises:
        ValueError: the file cannot be read, or is empty.
    """
    empty = True
    for row in preference_rows(path, fix=fix):
        empty = False
        yield _raw_row(row, path.name)
    if empty:
        raise ValueError(f"'{path}' has no rows; expected one preference or more")


def _raw_row(row: RawFileRow, source: str) -> RawRow:
    extra = row.extra
    weight = number_of(extra.get("weight"))
    raw = RawRow(
        row_id=row.row_id,
        prompt=row.prompt,
        chosen=row.chosen,
        rejected=row.rejected,
        tools=row.tools,
        p_chosen=number_of(extra.get("p_chosen")),
        weight=1.0 if weight is None else weight,
        margin=number_of(extra.get("margin")),
        source=source,
        error=None if row.error is None else Failure(*row.error),
    )
    return raw if raw.error is not None else _rated(raw, extra)


def _rated(row: RawRow, extra: Mapping[str, Any]) -> RawRow:
    """The row with the ratings of chosen and rejected, where the file has them."""
    texts = [str(side[-1].get("content")) for _, side in row.sides()]
    try:
        rated = rated_answers(extra)
        check_signals(extra, *texts)
    except RowError as error:
        return replace(row, error=Failure(error.code, str(error)))
    if rated is not None:
        # distilabel keeps its ratings in the order of the answers, whichever of them was chosen.
        by_text = {str(answer): rating for answer, rating in zip(*rated, strict=True)}
        if all(text in by_text for text in texts):
            return replace(row, ratings=[number_of(by_text[text]) for text in texts])
    for names in _RATING_COLUMNS:
        found = [number_of(extra.get(name)) for name in names]
        if any(rating is not None for rating in found):
            return replace(row, ratings=found)
    return row

"""The answers in a table's cells: one a row, or all of an item's in one row."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from curation.formats.argilla_cells import NOT_SUBMITTED, argilla_answers
from curation.formats.json_values import RowError, type_name
from curation.formats.vote_columns import VoteColumns, is_missing
from curation.formats.winners import is_word, text_of
from schemas.records import canonical_json

_ALL = "all"
"""The item of votes that name none: there is only one."""
_STATUS = ("response_status", "status")


class Cell(NamedTuple):
    """One answer as the file has it."""

    row: str
    item: str
    left: str
    right: str
    annotator: str | None
    value: Any


class RejectedVote(NamedTuple):
    """An answer that cannot be read."""

    row: str
    """`line 7` of a JSONL file, else `row 7`."""
    code: str
    message: str


NumberedRows = list[tuple[str, dict[str, Any]]]
"""Rows by column, each with what it is called."""


def table_cells(
    rows: NumberedRows,
    columns: VoteColumns,
    *,
    is_text: bool,
    rejected: list[RejectedVote],
    left_out: Counter[str],
) -> list[Cell]:
    """The answers of the rows; what holds none is added to `rejected` or counted in `left_out`.

    `is_text`: the file has text alone, so nothing is "" and lists are JSON.
    """
    cells: list[Cell] = []
    status = _status_column(rows, columns)
    for where, row in rows:
        try:
            if not columns.is_wide and (word := _folded(row.get(status))) in ("draft", "discarded"):
                left_out[NOT_SUBMITTED[word]] += 1
                continue
            item = where if columns.is_wide and not columns.item else item_of(row, columns.item)
            left, right = "left", "right"
            if columns.left is not None and columns.right is not None:
                left = side_of(row, columns.left, empty_is_missing=is_text)
                right = side_of(row, columns.right, empty_is_missing=is_text)
            for annotator, value in _answers(where, row, columns, is_text, left_out):
                if is_missing(value) and columns.is_wide:
                    left_out["ABSENT"] += 1
                elif is_missing(value):
                    raise RowError("MISSING_VALUE", f"'{columns.winner or columns.label}' is empty")
                else:
                    cells.append(Cell(where, item, left, right, annotator, value))
        except RowError as error:
            rejected.append(RejectedVote(where, error.code, str(error)))
    return cells


def _status_column(rows: NumberedRows, columns: VoteColumns) -> str:
    """The column that says whether an answer was submitted; empty where there is none."""
    names = {_folded(name): name for _, row in rows for name in row}
    used = {columns.winner, columns.label, columns.annotator, *columns.item}
    found = (names[name] for name in _STATUS if name in names)
    return next((name for name in found if name not in used), "")


def _answers(
    where: str,
    row: Mapping[str, Any],
    columns: VoteColumns,
    is_text: bool,
    left_out: Counter[str],
) -> list[tuple[str | None, Any]]:
    """The answers in a row, each with its annotator where that is known."""
    if columns.annotators:
        return [
            (name, value)
            for name in columns.annotators
            for value in _repeated(_opened(row.get(name), is_text))
        ]
    if columns.votes is not None:
        opened = partial(_opened, is_text=is_text)
        found = argilla_answers(where, row, columns.votes, opened, left_out)
        return _many(opened(row.get(columns.votes)), columns.votes) if found is None else found
    value = row.get(columns.winner or columns.label or "")
    if columns.annotator is None:
        return [(None, value)]
    return [(_name(row, columns.annotator), value)]


def _many(value: Any, column: str) -> list[tuple[str | None, Any]]:
    if isinstance(value, Mapping):
        return [(str(name), answer) for name, cell in value.items() for answer in _repeated(cell)]
    if isinstance(value, str) and value.isalnum() and (len(value) == 1 or not is_word(value)):
        return [(None, letter) for letter in value]
    if not isinstance(value, list):
        found = f"'{value[:40]}'" if isinstance(value, str) else type_name(value)
        raise RowError(
            "BAD_ROW",
            f"'{column}' is {found}; expected answers by annotator, a list or letters",
        )
    if value and all(isinstance(one, list | tuple) and len(one) == 2 for one in value):
        return [(text_of(annotator), answer) for annotator, answer in value]
    return [(None, answer) for answer in value]


def _repeated(value: Any) -> list[Any]:
    """A list holds several answers of one annotator."""
    return value if isinstance(value, list) else [value]


def _opened(cell: Any, is_text: bool) -> Any:
    """The list or object that a cell of a CSV file holds as JSON; else the cell."""
    if is_text and isinstance(cell, str) and cell.lstrip().startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(cell)
    return cell


def _folded(value: Any) -> str:
    return value.strip().casefold() if isinstance(value, str) else ""


def item_of(row: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    """The item that the columns name together.

    Raises:
        RowError: MISSING_VALUE.
    """
    if not columns:
        return _ALL
    names = [_name(row, column) for column in columns]
    return names[0] if len(names) == 1 else canonical_json(names)


def side_of(row: Mapping[str, Any], column: str, *, empty_is_missing: bool) -> str:
    """The thing compared, as it is: a text keeps its white space.

    Raises:
        RowError: MISSING_VALUE.
    """
    value = row.get(column)
    if isinstance(value, str) and (value.strip() or not empty_is_missing):
        return value
    return _name(row, column)


def _name(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if is_missing(value):
        raise RowError("MISSING_VALUE", f"'{column}' is empty")
    return canonical_json(value) if isinstance(value, list | Mapping) else text_of(value)

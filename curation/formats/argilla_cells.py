"""The answers of an Argilla export: values, users and statuses, in lists apart or together."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from curation.formats.json_values import RowError
from curation.formats.winners import text_of

Opened = Callable[[Any], Any]
NOT_SUBMITTED = {"draft": "DRAFT", "discarded": "DISCARDED", "pending": "PENDING"}


def argilla_answers(
    where: str, row: Mapping[str, Any], column: str, opened: Opened, left_out: Counter[str]
) -> list[tuple[str | None, Any]] | None:
    """The submitted answers, each with its annotator; None where the column is none of Argilla's.

    `opened` gives what a cell holds. What was not submitted is counted.

    Raises:
        RowError: BAD_ROW.
    """
    cell = opened(row.get(column))
    if f"{column}.status" in row:
        lists = [cell, *(opened(row.get(f"{column}.{name}")) for name in ("users", "status"))]
    elif isinstance(cell, Mapping) and _is_answer(cell) and isinstance(cell["status"], list):
        lists = [cell["value"], cell.get("user_id"), cell["status"]]
    elif isinstance(cell, list) and cell and all(map(_is_answer, cell)):
        lists = [[one.get(key) for one in cell] for key in ("value", "user_id", "status")]
    else:
        return None
    return list(_submitted(where, column, lists, left_out))


def _is_answer(cell: Any) -> bool:
    return isinstance(cell, Mapping) and "value" in cell and "status" in cell


def _submitted(
    where: str, column: str, lists: Sequence[Any], left_out: Counter[str]
) -> Iterator[tuple[str | None, Any]]:
    values, users, statuses = ([] if one is None else one for one in lists)
    if isinstance(statuses, list) and not users:
        users = [None] * len(statuses)
    if not all(isinstance(one, list) for one in (values, users, statuses)) or not (
        len(values) == len(users) == len(statuses)
    ):
        raise RowError(
            "BAD_ROW", f"the values, users and statuses of '{column}' are not lists of one length"
        )
    for number, (value, user, each) in enumerate(zip(values, users, statuses, strict=True), 1):
        status = str(each)
        if status in NOT_SUBMITTED:
            left_out[NOT_SUBMITTED[status]] += 1
        elif status != "submitted":
            raise RowError(
                "BAD_ROW",
                f"an answer in '{column}' has the status '{status}'; expected submitted or "
                f"{', '.join(NOT_SUBMITTED)}",
            )
        else:
            yield (f"deleted:{where}, {number}" if user is None else text_of(user)), value

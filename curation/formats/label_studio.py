"""Answers out of a Label Studio export: a JSON list of tasks with their annotations."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from curation.formats.json_values import RowError
from curation.formats.vote_cells import Cell, NumberedRows, RejectedVote, item_of, side_of
from curation.formats.vote_columns import VoteColumns, usual_sides


class _Answer(NamedTuple):
    """What one annotator submitted in one control of one task."""

    row: str
    task: Mapping[str, Any]
    annotator: str
    control: str
    sides: tuple[str, ...]
    """The names of what was compared, as the labelling page calls them; empty for a choice."""
    value: Any


def is_label_studio(row: Mapping[str, Any]) -> bool:
    """Whether the row is a task of an export."""
    return isinstance(row.get("data"), Mapping) and isinstance(row.get("annotations"), list)


def studio_cells(
    path: str,
    rows: NumberedRows,
    told: VoteColumns,
    *,
    rejected: list[RejectedVote],
    left_out: Counter[str],
) -> tuple[VoteColumns, list[Cell]]:
    """The submitted answers to one control, and where they were found.

    `told` names the control by its `winner` or `label`, and keys of the tasks' data by `left`,
    `right` and `item`; without an item it is the task's id. What is no independent answer is
    counted: CANCELLED, DRAFT, PREDICTION, ASSISTED where a prediction was kept or changed,
    OTHER_QUESTION where it answers another control.

    Raises:
        ValueError: there is no answer, or there are several controls and none of them is told.
    """
    answers: list[_Answer] = []
    for where, task in rows:
        if not is_label_studio(task):
            rejected.append(RejectedVote(where, "BAD_ROW", "the row is no task of an export"))
            continue
        for answer in _answers(where, task, left_out):
            if isinstance(answer, RowError):
                rejected.append(RejectedVote(where, answer.code, str(answer)))
            else:
                answers.append(answer)
    if not answers:
        raise ValueError(
            f"'{path}' is a Label Studio export without a submitted answer to a pairwise "
            f"comparison or choice{_others(task for _, task in rows)}"
        )
    columns = _columns(path, answers, told)
    cells: list[Cell] = []
    for answer in answers:
        if answer.control != (columns.winner or columns.label):
            left_out["OTHER_QUESTION"] += 1
            continue
        try:
            cells.append(_cell(answer, columns))
        except RowError as error:
            rejected.append(RejectedVote(answer.row, error.code, str(error)))
    return columns, cells


def _answers(
    where: str, task: Mapping[str, Any], left_out: Counter[str]
) -> Iterator[_Answer | RowError]:
    """A task's submitted answers, in the order they were last changed."""
    left_out["DRAFT"] += len(_dicts(task.get("drafts")))
    left_out["PREDICTION"] += len(_dicts(task.get("predictions")))
    annotations = _dicts(task["annotations"])
    for annotation in sorted(annotations, key=lambda item: str(item.get("updated_at") or "")):
        if annotation.get("was_cancelled"):
            left_out["CANCELLED"] += 1
            continue
        name = f"annotation {annotation.get('id')}"
        results = [item for item in _dicts(annotation.get("result")) if _is_answer(item)]
        if not results:
            yield RowError("MISSING_VALUE", f"{name} holds no comparison or choice")
        for result in results:
            control, value = str(result.get("from_name")), result["value"]
            if str(result.get("origin", "manual")).startswith("prediction"):
                left_out["ASSISTED"] += 1
            elif result["type"] == "pairwise":
                sides = tuple(side.strip() for side in str(result.get("to_name")).split(","))
                chosen = value.get("selected")
                yield _Answer(where, task, _annotator(annotation), control, sides, chosen)
            elif isinstance(choices := value.get("choices"), list) and len(choices) == 1:
                yield _Answer(where, task, _annotator(annotation), control, (), choices[0])
            else:
                yield RowError("AMBIGUOUS_ANSWER", f"{name} has not one choice in '{control}'")


def _columns(path: str, answers: list[_Answer], told: VoteColumns) -> VoteColumns:
    controls = list(dict.fromkeys(answer.control for answer in answers))
    pairwise = list(dict.fromkeys(answer.control for answer in answers if answer.sides))
    wanted = told.winner or told.label
    if wanted is None:
        wanted, *others = pairwise or controls
        if others:
            raise ValueError(
                f"'{path}' answers several controls ({', '.join((wanted, *others))}); say which "
                "counts with --winner or --label"
            )
    if wanted not in controls:
        raise ValueError(f"'{path}' has no answers to '{wanted}'; it has {', '.join(controls)}")
    left, right = told.left, told.right
    if left is None and told.label is None:
        left, right = _data_keys(next(item for item in answers if item.control == wanted))
    is_winner = wanted in pairwise or told.winner is not None
    return told.model_copy(
        update={
            "left": left if is_winner else None,
            "right": right if is_winner else None,
            "winner": wanted if is_winner else None,
            "label": None if is_winner else wanted,
            "left_is_first": is_winner,
        }
    )


def _others(tasks: Iterable[Mapping[str, Any]]) -> str:
    """What the answers are instead, which is not read."""
    types = {
        str(result.get("type"))
        for task in tasks
        for annotation in _dicts(task.get("annotations"))
        for result in _dicts(annotation.get("result"))
        if not _is_answer(result)
    }
    return f"; it holds {', '.join(sorted(types))}" if types else ""


def _data_keys(answer: _Answer) -> tuple[str, str] | tuple[None, None]:
    """The keys of the two sides in the task's data: as the page calls them, or usual names."""
    data = answer.task["data"]
    if len(answer.sides) == 2 and all(side in data for side in answer.sides):
        return answer.sides[0], answer.sides[1]
    return usual_sides(data)


def _cell(answer: _Answer, columns: VoteColumns) -> Cell:
    data = answer.task["data"]
    left, right = "left", "right"
    if columns.left is not None and columns.right is not None:
        left = side_of(data, columns.left, empty_is_missing=False)
        right = side_of(data, columns.right, empty_is_missing=False)
    task_id = answer.task.get("id")
    # Tasks that name none are not one task.
    item = answer.row if task_id is None else str(task_id)
    if columns.item:
        item = item_of(data, columns.item)
    return Cell(answer.row, item, left, right, answer.annotator, answer.value)


def _annotator(annotation: Mapping[str, Any]) -> str:
    """The annotator's name; whoever is not known is nobody else either."""
    person = annotation.get("completed_by")
    if isinstance(person, Mapping):
        person = person.get("email") or person.get("id")
    return f"deleted:{annotation.get('id')}" if person is None else str(person)


def _is_answer(result: Mapping[str, Any]) -> bool:
    return result.get("type") in ("pairwise", "choices") and isinstance(
        result.get("value"), Mapping
    )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

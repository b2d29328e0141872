"""Which columns of a file hold the votes: as told, or by the names that are common."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curation.formats.winners import Winner
from schemas.records import Record, canonical_json

_SIDES = (
    ("left", "right"),
    ("model_a", "model_b"),
    ("response_a", "response_b"),
    ("answer_a", "answer_b"),
    ("response1", "response2"),
    ("response_1", "response_2"),
    ("answer1", "answer2"),
    ("answer_1", "answer_2"),
    ("output_1", "output_2"),
    ("text1", "text2"),
    ("a1", "a2"),
)
_POSITIONS = {"left", "model_a", "response_a", "answer_a"}
"""Names of left columns that say where a thing was shown."""
_ITEM = [
    "item",
    "item_id",
    "prompt_id",
    "question_id",
    "task_id",
    "prompt",
    "pair_id",
    "pair",
    "id",
    "idx",
    "task",
    "unit",
    "question",
    "instruction",
    "query",
]
_ANNOTATOR = [
    "annotator",
    "annotator_id",
    "rater",
    "rater_id",
    "worker",
    "worker_id",
    "judge",
    "labeler",
    "labeller",
    "observer",
    "coder",
    "evaluator",
    "user",
    "user_id",
]
_WINNER = ("winner", "preference", "preferred", "verdict", "vote", "choice")
_LABEL = ("label", "category", "class", "rating")
_NOTHING = ("", "nan", "<na>")
_ONE_OF_MANY = re.compile(r"(annotator|rater|observer|coder|labell?er|worker|judge)[ _-]?\d+")


class VoteColumns(Record):
    """The columns that hold a file's votes; what is not told is found by common names."""

    item: tuple[str, ...] = ()
    """Several columns name an item together."""
    left: str | None = None
    right: str | None = None
    annotator: str | None = None
    winner: str | None = None
    label: str | None = None
    """A label in place of a winner: there are no two sides."""
    annotators: tuple[str, ...] = ()
    """One column of answers an annotator."""
    votes: str | None = None
    """One column with all answers to an item: an object or list of pairs by annotator, or a list or
    a string of letters of nobody knows whom."""
    values: dict[str, Winner] | None = None
    """What the file's words for a winner mean."""
    left_is_first: bool = False
    """The left side is known to have been shown first."""

    @property
    def has_sides(self) -> bool:
        return self.label is None and self.left is not None

    @property
    def is_wide(self) -> bool:
        """Whether a row holds all answers to one item."""
        return bool(self.annotators) or self.votes is not None


def find_columns(path: str, rows: Sequence[Mapping[str, Any]], told: VoteColumns) -> VoteColumns:
    """The columns to read, each of them in the file.

    Raises:
        ValueError: a column that was told is not there, or one that is needed is not found.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    named = [*told.item, *told.annotators, told.left, told.right, told.annotator]
    for name in (*named, told.winner, told.label, told.votes):
        if name is not None and name not in names:
            raise ValueError(f"'{path}' has no column '{name}'; its columns: {', '.join(names)}")
    found = told.model_dump(exclude={"left_is_first"})
    found.update(_sides(names, told))
    if not any((told.winner, told.label, told.votes, *told.annotators)):
        found.update(_answers(path, names, has_sides=found["left"] is not None))
    columns = VoteColumns(**found)
    one = (columns.winner, columns.label, columns.votes)
    answers = {*columns.annotators, *(name for name in one if name is not None)}
    answered = [row for row in rows if any(not is_missing(row.get(name)) for name in answers)]
    others = [name for name in names if name not in answers]
    if not columns.is_wide and columns.annotator is None:
        columns = columns.model_copy(update={"annotator": _first(_ANNOTATOR, others)})
    if not columns.item:
        # A guess must hold for most answers, of which those without an item are then refused: to
        # take all for one item would make one person's votes repeats of each other. A row of a
        # wide file is an item of its own.
        usable = [
            name
            for name in others
            if name.casefold() in _ITEM
            and 2 * sum(is_missing(row.get(name)) for row in answered) < max(1, len(answered))
            and (not columns.is_wide or _tells_apart(name, rows))
        ]
        item = _first(_ITEM, usable)
        columns = columns.model_copy(update={"item": (item,) if item else ()})
    if not columns.item and not columns.has_sides and not columns.is_wide:
        raise ValueError(
            f"'{path}' has no column known to name the item; name it with --item; "
            f"its columns: {', '.join(names)}"
        )
    return columns


def check_told(told: VoteColumns) -> None:
    """Refuse options that do not go together.

    Raises:
        ValueError: one side without the other, or two places for the answers or annotators.
    """
    if (told.left is None) != (told.right is None):
        raise ValueError("only one of --left and --right is given; expected both")
    places = {
        "--winner": told.winner,
        "--label": told.label,
        "--annotators": told.annotators,
        "--votes": told.votes,
    }
    named = [option for option, value in places.items() if value]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} each say where the answers are; expected one")
    if told.annotators and told.annotator is not None:
        raise ValueError(
            "--annotators names columns that belong to one annotator each, and --annotator one "
            "that says who answered; expected one of the two"
        )
    if told.label is not None and told.left is not None:
        raise ValueError("--label is for answers without two sides; --left and --right are given")


def _sides(names: Sequence[str], told: VoteColumns) -> dict[str, str | bool | None]:
    if told.left is not None:
        return {"left": told.left, "right": told.right, "left_is_first": True}
    left, right = usual_sides(names) if told.label is None else (None, None)
    first = left is not None and left.casefold() in _POSITIONS
    return {"left": left, "right": right, "left_is_first": first}


def usual_sides(names: Iterable[str]) -> tuple[str, str] | tuple[None, None]:
    """The two columns that usually hold what is compared."""
    folded = {name.casefold(): name for name in names}
    for left, right in _SIDES:
        if left in folded and right in folded:
            return folded[left], folded[right]
    return None, None


def _answers(
    path: str, names: Sequence[str], *, has_sides: bool
) -> dict[str, str | tuple[str, ...] | None]:
    if winner := _first(_WINNER, names):
        return {"winner": winner}
    if many := tuple(name for name in names if _ONE_OF_MANY.fullmatch(name.casefold())):
        return {"annotators": many}
    if votes := _first(("votes",), names):
        return {"votes": votes}
    if not has_sides and (label := _first(_LABEL, names)):
        return {"label": label}
    raise ValueError(
        f"'{path}' has no column known to hold votes; name it with --winner, --label, --votes or "
        f"--annotators; its columns: {', '.join(names)}"
    )


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    folded = {name.casefold(): name for name in names}
    return next((folded[name] for name in wanted if name in folded), None)


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing, or what tables with gaps write for nothing."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip().casefold() in _NOTHING)


def _tells_apart(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return len({canonical_json(row.get(column)) for row in rows}) == len(rows)

"""Which side a file's cell names as the winner, or why that cannot be said."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from curation.formats.json_values import RowError, type_name

Winner = Literal["left", "right", "tie"]

_FIRST = re.compile(
    r"(?:(?:model|response|answer|assistant|option|output|candidate|completion|text)[ _-]?"
    r"(?:a|1)|a|left|first)(?: is better)?"
)
_SECOND = re.compile(
    r"(?:(?:model|response|answer|assistant|option|output|candidate|completion|text)[ _-]?"
    r"(?:b|2)|b|right|second)(?: is better)?"
)
_TIE = {"tie", "ties", "tied", "draw", "equal", "same", "both", "neither", "both_good", "both good"}
_BOTH_BAD = {"both_bad", "bothbad", "both bad", "tie (bothbad)", "tie (both bad)", "both are bad"}
_CODES: dict[str, Winner] = {"1": "left", "2": "right", "0": "tie"}


class Answer(NamedTuple):
    winner: Winner
    both_bad: bool = False


class WinnerReader:
    """Reads one file's winners.

    A cell may say left, right or tie in the usual words, the name of a side's column, or that
    side itself. Where two of these speak for different sides nothing is guessed. The numbers 1, 2
    and 0 are read as left, right and tie if there is a 2 and no other number among the file's
    answers: 0 and 1 alone mean too many things. With `values` only those words are read.
    """

    def __init__(
        self,
        cells: Iterable[Any],
        *,
        left_column: str,
        right_column: str,
        values: Mapping[str, Winner] | None = None,
    ) -> None:
        texts = {text_of(cell) for cell in cells}
        numbers = {text for text in texts if re.fullmatch(r"-?\d+", text)}
        self._codes = _CODES if "2" in numbers and numbers <= _CODES.keys() else {}
        self._columns = {_folded(left_column): "left", _folded(right_column): "right"}
        self._values = values

    def read(self, cell: Any, left: str, right: str) -> Answer:
        """The answer in a cell about two sides.

        Raises:
            RowError: UNREADABLE_WINNER or AMBIGUOUS_WINNER.
        """
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            raise RowError(
                "UNREADABLE_WINNER", f"the winner is {type_name(cell)}; expected left, right or tie"
            )
        text = text_of(cell)
        if self._values is not None:
            if text not in self._values:
                raise RowError(
                    "UNREADABLE_WINNER",
                    f"the winner is '{text}'; expected one of {', '.join(self._values)}",
                )
            return Answer(self._values[text])
        found = self._meanings(text, left, right)
        if not found:
            raise RowError(
                "UNREADABLE_WINNER",
                f"the winner is '{text[:80]}'; expected left, right, tie, or one of the two sides",
            )
        sides = sorted({answer.winner for answer in found})
        if len(sides) > 1:
            raise RowError(
                "AMBIGUOUS_WINNER",
                f"the winner '{text[:80]}' may mean {' or '.join(sides)}; say what the values mean",
            )
        return max(found, key=lambda answer: answer.both_bad)

    def _meanings(self, text: str, left: str, right: str) -> set[Answer]:
        word = _folded(text)
        found = {Answer("left")} if text == text_of(left) else set()
        if text == text_of(right):
            found.add(Answer("right"))
        if _FIRST.fullmatch(word) or self._columns.get(word) == "left":
            found.add(Answer("left"))
        if _SECOND.fullmatch(word) or self._columns.get(word) == "right":
            found.add(Answer("right"))
        if word in _TIE:
            found.add(Answer("tie"))
        if word in _BOTH_BAD:
            found.add(Answer("tie", both_bad=True))
        if text in self._codes:
            found.add(Answer(self._codes[text]))
        return found


def is_word(text: str) -> bool:
    """Whether the text is one of the usual words for left, right or tie."""
    word = _folded(text)
    usual = _FIRST.fullmatch(word) or _SECOND.fullmatch(word)
    return usual is not None or word in _TIE or word in _BOTH_BAD


def text_of(cell: Any) -> str:
    """The cell's text without white space around it; 1.0, as tables with gaps write it, is 1."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = str(cell).strip()
    return text[:-2] if re.fullmatch(r"-?\d+\.0", text) else text


def _folded(text: str) -> str:
    return text.strip().casefold()

"""Votes from elsewhere: how well people agree in a file, and what their votes say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from pairwright.errors import CheckError

if TYPE_CHECKING:
    from curation.formats.vote_cells import RejectedVote
    from curation.formats.vote_columns import VoteColumns
    from curation.formats.votes import VoteFile
    from curation.gold import MethodAccuracy
    from curation.nominal import LabelResult
    from curation.voting import VoteResult

Winner = Literal["left", "right", "tie"]
VotingMethod = Literal["majority", "dawid-skene", "mace", "bradley-terry"]
_WEIGH_ANNOTATORS = ("dawid-skene", "mace")


class ColumnOptions(NamedTuple):
    """The columns of a file of votes as the command line names them."""

    item: str | None = None
    left: str | None = None
    right: str | None = None
    annotator: str | None = None
    winner: str | None = None
    label: str | None = None
    annotators: str | None = None
    votes: str | None = None
    values: str | None = None

    def given(self) -> dict[str, str | None]:
        """What was said, by option."""
        return {f"--{name}": value for name, value in self._asdict().items()}

    def read(self) -> "VoteColumns":
        """The columns as a file is read by.

        Raises:
            ValueError: --values says nothing that can be read.
        """
        from curation.formats.vote_columns import VoteColumns

        return VoteColumns(
            item=_names(self.item),
            left=self.left,
            right=self.right,
            annotator=self.annotator,
            winner=self.winner,
            label=self.label,
            annotators=_names(self.annotators),
            votes=self.votes,
            values=None if self.values is None else _meanings(self.values),
        )


def _names(columns: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (columns or "").split(",") if name.strip())


def _meanings(text: str) -> dict[str, Winner]:
    """The file's word for each winner, the other way round.

    `left=1,right=2,tie=0` is {"1": "left", "2": "right", "0": "tie"}.
    """
    meanings: dict[str, Winner] = {}
    for part in text.split(","):
        name, equals, word = (piece.strip() for piece in part.partition("="))
        winner = next((one for one in get_args(Winner) if one == name), None)
        if not equals or winner is None or word in meanings:
            raise ValueError(
                f"--values '{text}': '{part.strip()}' is not of the form left=X, right=Y or tie=Z"
            )
        meanings[word] = winner
    return meanings


def check_is_file(path: Path) -> None:
    """Return unless it is a folder.

    Raises:
        ValueError: it is.
    """
    if path.is_dir():
        raise ValueError(f"'{path}' is a folder; expected a CSV, JSONL, JSON or Parquet file")


def check_any_vote(
    path: Path, votes: int, rejected: "Sequence[RejectedVote]", left_out: Mapping[str, int]
) -> None:
    """Return if any vote was read; `rejected` and `left_out` say what became of the others.

    Raises:
        CheckError: none was, and the result is printed already.
    """
    if votes:
        return
    reasons = Counter(row.code for row in rejected) + Counter(left_out)
    counted = ", ".join(f"{number} {name}" for name, number in sorted(reasons.items()))
    first = f"; {rejected[0].row}: {rejected[0].message}" if rejected else ""
    raise CheckError(
        f"'{path}' holds no vote that counts ({counted or 'it is empty'}{first}); name its columns "
        "with --winner or --label, and its words with --values",
        after_result=True,
    )


class FileVerdicts(NamedTuple):
    """What a file's votes or labels say; one of `votes` and `labels` is None."""

    file: "VoteFile"
    votes: "VoteResult | None"
    labels: "LabelResult | None"
    compared: "list[MethodAccuracy]"
    """Each method against the answers that are known; empty where none are."""


def conclude(
    path: Path, columns: "VoteColumns", method: VotingMethod, gold: str | None
) -> FileVerdicts:
    """What a file's votes or labels say. `gold` names a column of right answers, which no method
    sees.

    Raises:
        ValueError: the file cannot be read, or the method does not fit what it holds.
    """
    from curation.formats.votes import read_votes
    from curation.gold import compare_label_methods, compare_methods
    from curation.nominal import aggregate_labels
    from curation.posteriors import METHODS
    from curation.voting import aggregate_votes

    file = read_votes(path, columns)
    if file.anonymous and method in _WEIGH_ANNOTATORS:
        raise ValueError(
            f"'{path}' does not say who voted, which {method} weighs; name the column with "
            "--annotator, or use --method majority"
        )
    right = None if gold is None else _right_answers(path, file.columns, gold, bool(file.labels))
    if file.labels:
        if method == "bradley-terry":
            raise ValueError(f"'{path}' holds labels; {method} is for votes on two sides")
        known = {vote.item: vote.label for vote in right.labels} if right else {}
        compared = compare_label_methods(file.labels, known) if known else []
        return FileVerdicts(file, None, aggregate_labels(file.labels, method), compared)
    methods = [one for one in METHODS if not (file.anonymous and one in _WEIGH_ANNOTATORS)]
    sides = {vote.pair: vote.winner for vote in right.votes} if right else {}
    compared = compare_methods(file.votes, sides, methods) if sides else []
    return FileVerdicts(file, aggregate_votes(file.votes, method), None, compared)


def _right_answers(path: Path, columns: "VoteColumns", gold: str, of_labels: bool) -> "VoteFile":
    """The column's answers, one an item.

    Raises:
        ValueError: the column holds none that can be read, or two for one item.
    """
    from curation.formats.votes import read_votes

    # A row of a wide file may be an item of its own, so the answers are read as one more annotator.
    wide = columns.is_wide
    alone = columns.model_copy(
        update={
            "winner": None if of_labels or wide else gold,
            "label": gold if of_labels and not wide else None,
            "annotator": None,
            "annotators": (gold,) if wide else (),
            "votes": None,
        }
    )
    found = read_votes(path, alone)
    answers: dict[object, str] = {}
    told = [(vote.pair, vote.winner) for vote in found.votes]
    for item, answer in [*told, *((vote.item, vote.label) for vote in found.labels)]:
        if answers.setdefault(item, answer) != answer:
            raise ValueError(
                f"'{path}': column '{gold}' gives {item} two answers, '{answers[item]}' and "
                f"'{answer}'; expected one right answer (does --item name what was voted on?)"
            )
    if not answers:
        why = f" ({found.rejected[0].row}: {found.rejected[0].message})" if found.rejected else ""
        raise ValueError(f"'{path}': column '{gold}' holds no answer that can be read{why}")
    return found

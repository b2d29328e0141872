"""Votes out of anybody's file: one a row, one column an annotator, or a Label Studio export."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from curation.formats.files import open_rows
from curation.formats.json_values import RowError, check_storable, type_name
from curation.formats.label_studio import is_label_studio, studio_cells
from curation.formats.vote_cells import Cell, NumberedRows, RejectedVote, table_cells
from curation.formats.vote_columns import VoteColumns, check_told, find_columns
from curation.formats.vote_times import in_time
from curation.formats.winners import Winner, WinnerReader, text_of
from curation.votes import Side, Vote

Repeats = Literal["latest", "keep"]


class LabelVote(NamedTuple):
    """One annotator's label for one item."""

    item: str
    annotator: str
    label: str


class VoteFile(NamedTuple):
    """A file's votes; either `votes` or `labels` is empty."""

    votes: list[Vote]
    """A pair that the file has both ways round is turned so that left < right."""
    labels: list[LabelVote]
    rejected: list[RejectedVote]
    left_out: Counter[str]
    """Why an answer is no vote though it could be read: SUPERSEDED (the annotator answered again),
    ABSENT (an empty cell of a wide file), CANCELLED, DRAFT, DISCARDED, PENDING, PREDICTION,
    ASSISTED."""
    columns: VoteColumns
    """Where the votes were found."""
    anonymous: bool
    """The file does not say who voted; each vote has an annotator of its own."""
    rows: int


def read_votes(
    path: str | Path, columns: VoteColumns | None = None, *, repeats: Repeats | None = None
) -> VoteFile:
    """The votes of a CSV, JSONL, JSON or Parquet file, in its order, or that of their times.

    An annotator's later answer to the same item takes the place of the earlier one unless
    `repeats` is "keep", which is the rule for labels: there an annotator may judge several times.
    Where no column names the item, votes on the same two sides may be about several, and are kept.

    What cannot be read is rejected: BAD_ROW, MISSING_VALUE, UNREADABLE_WINNER, AMBIGUOUS_WINNER,
    UNREADABLE_LABEL, AMBIGUOUS_ANSWER, SAME_SIDES.

    Raises:
        ValueError: the file or a column is not there, nothing says where the votes are, or what is
            told does not fit.
    """
    unit, numbered = open_rows(path)
    left_out: Counter[str] = Counter()
    rejected: list[RejectedVote] = []
    rows: NumberedRows = []
    for number, row in numbered:
        if isinstance(row, RowError):
            rejected.append(RejectedVote(f"{unit} {number}", row.code, str(row)))
        else:
            rows.append((f"{unit} {number}", row))
    if not rows:
        raise ValueError(f"'{path}' holds no rows; expected votes")
    total, told = len(rows) + len(rejected), columns or VoteColumns()
    check_told(told)
    if is_label_studio(rows[0][1]):
        found, cells = studio_cells(str(path), rows, told, rejected=rejected, left_out=left_out)
    else:
        found = find_columns(str(path), [row for _, row in rows], told)
        is_text = Path(path).suffix.lower() in (".csv", ".tsv")
        if repeats is None and not found.is_wide and not found.item:
            repeats = "keep"
        cells = table_cells(
            in_time(rows), found, is_text=is_text, rejected=rejected, left_out=left_out
        )
    anonymous = any(cell.annotator is None for cell in cells)
    votes: list[Vote] = []
    labels: list[LabelVote] = []
    if found.label is None and (found.left is not None or found.winner is not None):
        votes = _canonical(list(_votes(cells, found, rejected)))
        if not anonymous and repeats != "keep":
            kept = list({(*vote.pair, vote.annotator): vote for vote in votes}.values())
            left_out["SUPERSEDED"] += len(votes) - len(kept)
            votes = kept
    elif told.values is not None:
        raise ValueError(
            f"'{path}' holds labels, and --values says what words for a winner mean; leave it out, "
            "or name the column with --winner"
        )
    else:
        labels = list(_labels(cells, rejected))
        if not anonymous and repeats == "latest":
            latest = list({(vote.item, vote.annotator): vote for vote in labels}.values())
            left_out["SUPERSEDED"] += len(labels) - len(latest)
            labels = latest
    return VoteFile(votes, labels, rejected, +left_out, found, anonymous, total)


def _votes(cells: list[Cell], columns: VoteColumns, rejected: list[RejectedVote]) -> Iterator[Vote]:
    reader = WinnerReader(
        (cell.value for cell in cells),
        left_column=columns.left or "left",
        right_column=columns.right or "right",
        values=columns.values,
    )
    first: Side | None = "left" if columns.left_is_first else None
    for number, cell in enumerate(cells, start=1):
        try:
            if cell.left == cell.right:
                raise RowError("SAME_SIDES", "the two sides are the same")
            check_storable([cell.item, cell.left, cell.right, cell.annotator])
            answer = reader.read(cell.value, cell.left, cell.right)
        except RowError as error:
            rejected.append(RejectedVote(cell.row, error.code, str(error)))
            continue
        annotator = f"voter {number}" if cell.annotator is None else cell.annotator
        yield Vote(
            cell.item, cell.left, cell.right, annotator, answer.winner, first, answer.both_bad
        )


def _labels(cells: list[Cell], rejected: list[RejectedVote]) -> Iterator[LabelVote]:
    for number, cell in enumerate(cells, start=1):
        if isinstance(cell.value, list | Mapping):
            why = f"the label is {type_name(cell.value)}; expected text or a number"
            rejected.append(RejectedVote(cell.row, "UNREADABLE_LABEL", why))
            continue
        # 0.50 is 0.5: annotators' columns of one table may be written with unequal places.
        label = re.sub(r"^(-?\d+)(?:\.0*|(\.\d*[1-9])0+)$", r"\1\2", text_of(cell.value))
        try:
            check_storable([cell.item, cell.annotator, label])
        except RowError as error:
            rejected.append(RejectedVote(cell.row, error.code, str(error)))
            continue
        annotator = f"voter {number}" if cell.annotator is None else cell.annotator
        yield LabelVote(cell.item, annotator, label)


def _canonical(votes: list[Vote]) -> list[Vote]:
    """The votes with each pair one way round.

    A pair that is always the same way round stays: its sides may have a meaning.
    """
    seen = {vote.pair for vote in votes}
    return [
        _turned(vote)
        if vote.left > vote.right and (vote.item, vote.right, vote.left) in seen
        else vote
        for vote in votes
    ]


def _turned(vote: Vote) -> Vote:
    return vote._replace(
        left=vote.right,
        right=vote.left,
        winner=_OTHER[vote.winner],
        shown_first=_OTHER_SIDE.get(vote.shown_first),
    )


_OTHER: dict[Winner, Winner] = {"left": "right", "right": "left", "tie": "tie"}
_OTHER_SIDE: dict[Side | None, Side] = {"left": "right", "right": "left"}

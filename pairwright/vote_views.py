"""Tables about votes of a file: what they say, whom to trust, which method to use."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pairwright.labels.views import counted

if TYPE_CHECKING:
    from curation.formats.vote_cells import RejectedVote
    from curation.formats.votes import VoteFile
    from curation.gold import MethodAccuracy
    from curation.nominal import LabelResult
    from curation.voting import VoteResult
    from pairwright.vote_files import FileVerdicts

_SHOWN = 20
"""Rows of a table; --json has all."""


def verdict_views(found: "FileVerdicts") -> list[RenderableType]:
    """What the file's votes say, in tables short enough to read."""
    views: list[RenderableType] = []
    if found.votes is not None:
        views = _of_votes(found.votes, anonymous=found.file.anonymous)
    if found.labels is not None:
        views = _of_labels(found.labels, anonymous=found.file.anonymous)
    return [
        *views,
        *_compared(found.compared),
        *read_views(found.file.rejected, found.file.left_out),
    ]


def verdict_data(found: "FileVerdicts") -> dict[str, Any]:
    """Every figure; no annotators where the file does not say who voted."""
    anonymous = found.file.anonymous
    data: dict[str, Any] = {"rows": found.file.rows, **_read_data(found.file)}
    if found.votes is not None:
        data |= {
            "method": found.votes.method,
            "pairs": [row._asdict() for row in found.votes.pairs],
            "items": [row._asdict() for row in found.votes.items],
            "annotators": [] if anonymous else [row._asdict() for row in found.votes.annotators],
            "methods_against_gold": [row._asdict() for row in found.compared],
        }
    if found.labels is not None:
        data |= {
            "method": found.labels.method,
            "items": [row._asdict() for row in found.labels.items],
            "marginals": found.labels.marginals,
            "annotators": {} if anonymous else found.labels.reliability,
            "methods_against_gold": [row._asdict() for row in found.compared],
        }
    return data


def read_views(
    rejected: Sequence["RejectedVote"], left_out: Mapping[str, int]
) -> list[RenderableType]:
    """What in a file of votes is no vote, if anything."""
    views: list[RenderableType] = []
    if rejected:
        codes, first = Counter(row.code for row in rejected), rejected[0]
        told = f"not read: {counted(codes)}, such as {first.row}: {first.message}"
        views.append(Text(told, style="yellow"))
    return [*views, *([Text(f"left out: {counted(left_out)}")] if left_out else [])]


def _read_data(file: "VoteFile") -> dict[str, Any]:
    return {
        "columns": file.columns.model_dump(mode="json", exclude_defaults=True),
        "rejected": [row._asdict() for row in file.rejected],
        "left_out": dict(file.left_out),
    }


def _of_votes(result: "VoteResult", *, anonymous: bool) -> list[RenderableType]:
    winners = Counter(row.winner for row in result.pairs)
    votes = sum(row.votes for row in result.pairs)
    head = Text(
        f"{result.method}: {len(result.pairs)} pairs, {votes} votes; "
        f"left {winners['left']}, right {winners['right']}, tie {winners['tie']}"
    )
    views: list[RenderableType] = [head]
    if result.items:
        views.append(_scores(result))
    pairs = Table("item", "left", "right", "winner", "p(left)", "votes", box=None, pad_edge=False)
    for row in result.pairs[:_SHOWN]:
        pairs.add_row(
            *(_short(text) for text in (row.item, row.left, row.right)),
            row.winner,
            f"{row.p_left:.3f}",
            f"{row.left_votes}:{row.right_votes}, {row.tie_votes} ties",
        )
    views += [pairs, *_more(len(result.pairs), "pairs")]
    if anonymous:
        return views
    people = Table("annotator", "votes", "reliability", box=None, pad_edge=False)
    for person in result.annotators[:_SHOWN]:
        trust = "-" if person.reliability is None else f"{person.reliability:.3f}"
        people.add_row(_short(person.annotator), str(person.votes), trust)
    return [*views, people, *_more(len(result.annotators), "annotators")]


def _scores(result: "VoteResult") -> Table:
    table = Table("item", "name", "score", "95% interval", "votes", box=None, pad_edge=False)
    for row in result.items[:_SHOWN]:
        table.add_row(
            _short(row.item),
            _short(row.name),
            f"{row.score:.4f}",
            f"{row.low:.4f} to {row.high:.4f}",
            str(row.votes),
        )
    return table


def _of_labels(result: "LabelResult", *, anonymous: bool) -> list[RenderableType]:
    shares = Table("label", "share of items", box=None, pad_edge=False)
    for label, share in list(result.marginals.items())[:_SHOWN]:
        shares.add_row(_short(label), f"{share:.3f}")
    head = Text(f"{result.method}: {len(result.items)} items")
    views: list[RenderableType] = [head, shares, *_more(len(result.marginals), "labels")]
    if anonymous:
        return views
    people = Table("annotator", "reliability", box=None, pad_edge=False)
    for name, trust in list(result.reliability.items())[:_SHOWN]:
        people.add_row(_short(name), f"{trust:.3f}")
    return [*views, people, *_more(len(result.reliability), "annotators")]


def _compared(rows: Sequence["MethodAccuracy"]) -> list[RenderableType]:
    if not rows:
        return []
    table = Table(
        "method", "against gold", "95% interval", "ties", "log loss", box=None, pad_edge=False
    )
    for row in rows:
        interval = "" if row.low is None else f"{row.low:.3f} to {row.high:.3f}"
        loss = "-" if row.log_loss is None else f"{row.log_loss:.3f}"
        right = "-" if row.accuracy is None else f"{row.accuracy:.3f} of {row.pairs}"
        table.add_row(row.method, right, interval, str(row.ties), loss)
    return [table]


def _more(count: int, what: str) -> list[RenderableType]:
    return [Text(f"and {count - _SHOWN} {what} more (--json has all)")] if count > _SHOWN else []


def _short(text: str) -> Text:
    line = " ".join(text.split())
    return Text(line if len(line) <= 32 else f"{line[:31]}…")

"""An annotator's row of figures, and what it gives reason to say."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from curation.proportions import Proportion, proportion
from schemas.records import Record

_ENOUGH = 20
"""With fewer answers a suspicion is no more than one of bad luck."""


class AnnotatorRow(Record):
    """One annotator on one question; shares come with a 95 % interval."""

    annotator: str
    answers: int
    """Votes on pairs; a ranking of k answers holds k(k-1)/2."""
    gold: Proportion
    """Gold pairs answered right; the expected tie must be a tie."""
    agreement: Proportion
    """Equal to what most others say, where most others say one thing."""
    agreement_by_chance: float | None
    """The agreement of somebody who gives answers as often but does not look at the items."""
    first_shown: Proportion
    """The answer shown first, of decided answers: position preference."""
    order_changed: Proportion
    """Pairs seen in both orders whose answer changed with the order."""
    longer: Proportion
    """The longer text, of decided answers about texts of unequal length."""
    ties: Proportion
    both_bad: int
    seconds: float | None
    """Median time from one answer to the next; pauses over five minutes are left out."""
    excluded: bool = False
    warnings: tuple[str, ...] = ()
    suspect: bool = False
    """Warned of what a person who looks at the items does not do."""


def with_warnings(rows: Sequence[AnnotatorRow]) -> list[AnnotatorRow]:
    """The rows, each with the warnings that it gives reason for beside all the others.

    What is said leaves a 99 % interval, so that among many annotators few are warned of by chance.
    """
    counted = [row for row in rows if not row.excluded]
    usual = _Usual(
        gold=_median([row.gold.share for row in counted]),
        agreement=_median([row.agreement.share for row in counted]),
        habits={
            answer: _median([_habits(row)[answer].share for row in counted]) for answer in _ANSWERS
        },
        seconds=_median([row.seconds for row in counted]),
    )
    return [_warned(row, usual) for row in rows]


_ANSWERS = ("A", "B", "tie")


class _Usual(NamedTuple):
    """The median annotator, whom a few spammers do not move; None where there is one or none."""

    gold: float | None
    agreement: float | None
    habits: dict[str, float | None]
    seconds: float | None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if len(known) > 1 else None


def _habits(row: AnnotatorRow) -> dict[str, Proportion]:
    """How often each answer is given, A being the first shown."""
    seen = row.first_shown.of + row.ties.count if row.first_shown.of else 0
    return {
        "A": proportion(row.first_shown.count if seen else 0, seen),
        "B": proportion(row.first_shown.of - row.first_shown.count if seen else 0, seen),
        "tie": row.ties,
    }


def _warned(row: AnnotatorRow, usual: _Usual) -> AnnotatorRow:
    """The row with its warnings, first those that a suspicion rests on."""
    grave, mild = list(_grave(row, usual)), list(_mild(row, usual))
    return row.model_copy(update={"warnings": (*grave, *mild), "suspect": bool(grave)})


def _grave(row: AnnotatorRow, usual: _Usual) -> Iterator[str]:
    if row.gold.is_below(0.75 if usual.gold is None else min(0.75, usual.gold)):
        median = "" if usual.gold is None else f"; the median annotator on {usual.gold:.0%}"
        yield f"right on {_of(row.gold, 'gold pairs')}{median}"
    chance = row.agreement_by_chance
    if (
        chance is not None
        and usual.agreement is not None
        and row.agreement.of >= _ENOUGH
        # Not told from chance is not enough: with few answers nobody is.
        and row.agreement.is_below(usual.agreement)
        and (row.agreement.low or 0) <= chance
    ):
        yield (
            f"agrees with most others on {_of(row.agreement, 'pairs')}; answers given blindly "
            f"would on {chance:.0%}"
        )
    for answer, share in _habits(row).items():
        if share.is_above(max(0.75, usual.habits[answer] or 0)):
            yield f"answers {answer} {share.share:.0%} of the time ({share.count} of {share.of})"


def _mild(row: AnnotatorRow, usual: _Usual) -> Iterator[str]:
    decided = "decided answers"
    if row.first_shown.is_above(0.5):
        yield f"prefers the answer shown first: {_of(row.first_shown, decided)}"
    if row.first_shown.is_below(0.5):
        yield f"prefers the answer shown second: the first wins {_of(row.first_shown, decided)}"
    if row.order_changed.is_above(0.2):
        yield f"changes the answer with the order in {_of(row.order_changed, 'mirrored pairs')}"
    if row.longer.is_above(0.5):
        yield f"prefers the longer answer: {_of(row.longer, decided)}"
    if row.longer.is_below(0.5):
        yield f"prefers the shorter answer: the longer wins {_of(row.longer, decided)}"
    ties, seconds = usual.habits["tie"], usual.seconds
    if ties is not None and row.ties.is_above(max(0.5, ties)):
        yield f"answers tie on {_of(row.ties, 'pairs')}; the median annotator on {ties:.0%}"
    own = row.seconds
    if own is not None and seconds is not None and row.answers >= _ENOUGH and own < seconds / 4:
        yield f"takes {own:.1f} s an answer; the median annotator {seconds:.0f} s"


def _of(share: Proportion, noun: str) -> str:
    return f"{share.count} of {share.of} {noun} ({share.share:.0%})"

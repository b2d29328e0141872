"""How well annotators agree, each figure with its interval, and warnings in words."""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from curation.annotator_warnings import AnnotatorRow
from curation.annotators import annotators_of_votes
from curation.crowd import check_categories
from curation.formats.vote_cells import RejectedVote
from curation.formats.vote_columns import VoteColumns
from curation.formats.votes import LabelVote, read_votes
from curation.proportions import proportion
from curation.resampling import (
    CONFIDENCE,
    FEW_ITEMS,
    RESAMPLES,
    Figure,
    PairAgreement,
    item_figures,
    pair_figures,
)
from curation.votes import Vote, counted_judgements, votes_of
from schemas.records import Judgement, Record


class Agreement(Record):
    """How well the annotators agree on one question. An annotator counts once an item."""

    items: int
    compared: int
    """Items that two or more annotators answered; the figures are about these."""
    annotators: int | None
    """None where nobody knows who answered."""
    answers: int
    repeats: int
    """Answers left out because the same annotator answered the item again later."""
    labels: dict[str, int]
    """How often each answer was given, on all items."""
    percent: Figure
    tie_discounted: Figure
    fleiss: Figure
    alpha_nominal: Figure
    alpha_ordinal: Figure
    pairs: tuple[PairAgreement, ...]
    """By number of shared items, the most first."""
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    warnings: tuple[str, ...] = ()


def agreement_of_judgements(
    judgements: Iterable[Judgement],
    *,
    excluded: Collection[str] = (),
    assisted: bool = False,
    seed: int = 0,
) -> dict[str, Agreement]:
    """The agreement on each question; gold and adjudication answers are left out of it.

    Gold questions are picked to be easy, and who adjudicates has seen that others disagreed. With
    `assisted`, answers given in sight of a machine's ranking count too, which makes people alike.
    """
    asked = [
        item for item in judgements if item.purpose == "label" and item.annotator.kind == "human"
    ]
    questions = sorted(
        {item.question for item in asked}, key=lambda name: (name != "overall", name)
    )
    return {
        question: agreement(
            votes_of(
                counted_judgements(
                    asked, question=question, excluded=excluded, assisted=assisted
                ).kept
            ),
            seed=seed,
        )
        for question in questions
    }


def agreement(votes: Sequence[Vote], *, anonymous: bool = False, seed: int = 0) -> Agreement:
    """The agreement of votes on pairs: nominal, and ordinal as left < tie < right.

    With `anonymous` every vote is another person's, and there are no annotator pairs.
    """
    entries = [(vote.pair, vote.annotator, vote.winner) for vote in votes]
    found = _agreement(
        entries, ["left", "tie", "right"], ordered=True, tie=1, anonymous=anonymous, seed=seed
    )
    preferred = _position_warning(votes)
    return found.model_copy(update={"warnings": (*found.warnings, *preferred)})


def label_agreement(
    labels: Sequence[LabelVote],
    *,
    order: Sequence[str] | None = None,
    anonymous: bool = False,
    seed: int = 0,
) -> Agreement:
    """The agreement of labels; ordinal where all are numbers, or by `order`, the lowest first.

    Raises:
        ValueError: a label is not in the order, or there are too many different ones.
    """
    seen = sorted({vote.label for vote in labels})
    check_categories(seen)
    numbers = order is None and bool(seen) and all(map(_is_number, seen))
    if order is not None:
        unknown = [label for label in seen if label not in order]
        if unknown:
            raise ValueError(
                f"label '{unknown[0]}' is not in the order {', '.join(order)}; expected every label"
            )
        seen = [label for label in order if label in seen]
    elif numbers:
        seen.sort(key=float)
    found = _agreement(
        [(vote.item, vote.annotator, vote.label) for vote in labels],
        seen,
        ordered=order is not None or numbers,
        tie=None,
        anonymous=anonymous,
        seed=seed,
    )
    return found.model_copy(update={"warnings": (*found.warnings, *_case_warnings(seen))})


class FileAgreement(Record):
    """All that is known about the agreement in a file of votes."""

    path: str
    rows: int
    columns: VoteColumns
    """Where the votes were found."""
    rejected: dict[str, int]
    """Answers that cannot be read, by reason."""
    left_out: dict[str, int]
    """Answers that are no votes, by reason."""
    agreement: Agreement
    annotators: tuple[AnnotatorRow, ...]
    """Empty for labels and where nobody knows who voted."""


def agreement_of_file(
    path: str | Path,
    columns: VoteColumns | None = None,
    *,
    order: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[FileAgreement, list[RejectedVote]]:
    """The agreement in a file, and the answers of it that cannot be read.

    Raises:
        ValueError: the file cannot be read, nothing says where the votes are, or `order` is given
            for votes or leaves out a label.
    """
    file = read_votes(path, columns)
    if order is not None and not file.labels:
        raise ValueError(f"'{path}' holds votes on pairs; an order is for labels")
    if file.labels:
        found = label_agreement(file.labels, order=order, anonymous=file.anonymous, seed=seed)
    else:
        found = agreement(file.votes, anonymous=file.anonymous, seed=seed)
    return FileAgreement(
        path=str(path),
        rows=file.rows,
        columns=file.columns,
        rejected=dict(Counter(one.code for one in file.rejected)),
        left_out=dict(file.left_out),
        agreement=found,
        annotators=() if file.anonymous else tuple(annotators_of_votes(file.votes)),
    ), file.rejected


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _agreement(
    entries: Sequence[tuple[Hashable, str, str]],
    labels: Sequence[str],
    *,
    ordered: bool,
    tie: int | None,
    anonymous: bool,
    seed: int,
) -> Agreement:
    import numpy as np

    codes = {label: code for code, label in enumerate(labels)}
    latest: dict[tuple[Hashable, str], int] = {}
    for number, (item, annotator, label) in enumerate(entries):
        latest[item, str(number) if anonymous else annotator] = codes[label]
    items = {item: row for row, item in enumerate(dict.fromkeys(item for item, _ in latest))}
    counts = np.zeros((len(items), len(labels)))
    for (item, _), code in latest.items():
        counts[items[item], code] += 1
    rng = np.random.default_rng(seed)
    compared = counts[counts.sum(1) >= 2]
    figures = item_figures(compared, labels, ordered=ordered, tie=tie, rng=rng)
    answers = [(items[item], annotator, code) for (item, annotator), code in latest.items()]
    found = Agreement(
        items=len(items),
        compared=len(compared),
        annotators=None if anonymous else len({annotator for _, annotator in latest}),
        answers=len(latest),
        repeats=len(entries) - len(latest),
        labels=dict(zip(labels, map(int, counts.sum(0)), strict=True)),
        **figures._asdict(),
        pairs=() if anonymous else pair_figures(answers, labels, tie=tie, rng=rng),
    )
    return found.model_copy(update={"warnings": tuple(_warnings(found))})


def _warnings(found: Agreement) -> Iterator[str]:
    if found.annotators == 1:
        yield "there is one annotator, so agreement cannot be known"
    elif not found.compared:
        yield "no item has answers of two annotators, so agreement cannot be known"
    elif found.compared < found.items / 2:
        yield f"only {found.compared} of {found.items} items have answers of two annotators"
    yield from _alpha_warnings(found)
    thin = [pair for pair in found.pairs if pair.items < FEW_ITEMS]
    if len(thin) <= 3:
        for pair in thin:
            only = "item" if pair.items == 1 else "items"
            yield f"annotators {pair.first} and {pair.second} share only {pair.items} {only}"
    else:
        yield (
            f"{len(thin)} of {len(found.pairs)} annotator pairs share fewer than {FEW_ITEMS} "
            "items; their kappas say little"
        )


def _alpha_warnings(found: Agreement) -> Iterator[str]:
    alpha, percent = found.alpha_nominal, found.percent.value
    answer, most = max(found.labels.items(), key=lambda pair: pair[1], default=("", 0))
    if percent is None:
        return
    share = most / found.answers
    if alpha.value is None:
        if found.compared:
            shared = "" if most == found.answers else "on the items that two or more answered, "
            yield f"{shared}{alpha.why}; whether that is agreement or habit cannot be known"
    elif percent >= 0.75 and alpha.value < 0.4 and share >= 0.75:
        yield (
            f"high agreement ({percent:.0%}), low alpha ({alpha.value:.2f}): one answer dominates "
            f"('{answer}' is {share:.0%} of the answers)"
        )
    elif alpha.low is not None and alpha.high is not None and alpha.low <= 0:
        if alpha.high < 0:
            yield f"annotators agree less than by chance (alpha {alpha.value:.2f})"
        else:
            yield (
                f"agreement cannot be told from chance (alpha {alpha.value:.2f}, interval "
                f"{alpha.low:.2f} to {alpha.high:.2f})"
            )


def _case_warnings(labels: Iterable[str]) -> Iterator[str]:
    spellings: dict[str, list[str]] = {}
    for label in labels:
        spellings.setdefault(label.casefold(), []).append(label)
    for alike in spellings.values():
        if len(alike) > 1:
            quoted = " and ".join(f"'{label}'" for label in alike)
            yield f"the labels {quoted} differ in case alone; they are counted apart"


def _position_warning(votes: Iterable[Vote]) -> Iterator[str]:
    """Whether the side shown first, or second, wins too often over all votes."""
    decided = [vote for vote in votes if vote.shown_first and vote.winner != "tie"]
    first = proportion(sum(vote.winner == vote.shown_first for vote in decided), len(decided))
    if first.is_above(0.5):
        yield f"the answer shown first wins {first}"
    elif first.is_below(0.5):
        yield f"the answer shown first loses too often: it wins {first}"

"""Which method to trust: each one's verdicts against answers that are known."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from curation.crowd import LabelRow
from curation.nominal import LABEL_METHODS, aggregate_labels
from curation.posteriors import METHODS, Pair, VoteMethod, Winner, canonical
from curation.proportions import proportion
from curation.votes import Vote
from curation.voting import aggregate_votes
from schemas.labels import LabelTask

_LEAST = 1e-6
"""A posterior of 0 for what is true would cost infinitely much."""


class MethodAccuracy(NamedTuple):
    """How one method does against gold."""

    method: VoteMethod
    pairs: int
    """Pairs, or labelled items, with votes and a known answer."""
    right: int
    """Verdicts equal to gold; a tie is right only where gold says tie."""
    accuracy: float | None
    low: float | None
    high: float | None
    """Wilson's interval at 95%."""
    ties: int
    """Verdicts that are a tie, or no label."""
    log_loss: float | None
    """Mean of -log(posterior of what is true), pairs that gold calls a tie left out: what too much
    certainty costs. Always 0.5 is 0.693."""


def compare_methods(
    votes: Sequence[Vote],
    gold: Mapping[Pair, Winner],
    methods: Sequence[VoteMethod] = METHODS,
) -> list[MethodAccuracy]:
    """Each method's accuracy on the pairs whose answer is known, the most accurate first.

    Every method is fitted on all votes and sees no gold. A pair of gold may name its sides in
    either order.
    """
    answers = (canonical(Vote(*pair, annotator="gold", winner=won)) for pair, won in gold.items())
    known = {answer.pair: answer.winner for answer in answers}
    rows = [_accuracy(votes, known, method) for method in methods]
    return sorted(rows, key=lambda row: (-(row.accuracy or 0.0), row.log_loss or 0.0))


def compare_label_methods(
    labels: Sequence[LabelRow], gold: Mapping[str, str]
) -> list[MethodAccuracy]:
    """The same for labels: each method's accuracy on the items whose label is known."""
    rows = []
    for method in LABEL_METHODS:
        found = [item for item in aggregate_labels(labels, method).items if item.item in gold]
        losses = [
            -math.log(max(_LEAST, item.probabilities.get(gold[item.item], 0.0))) for item in found
        ]
        right = sum(item.label == gold[item.item] for item in found)
        undecided = sum(item.label is None for item in found)
        rows.append(_row(method, right, len(found), undecided, losses))
    return sorted(rows, key=lambda row: (-(row.accuracy or 0.0), row.log_loss or 0.0))


def gold_of(tasks: Iterable[LabelTask]) -> dict[Pair, Winner]:
    """The known answer about each two candidates of the gold questions among the tasks."""
    gold: dict[Pair, Winner] = {}
    for task in tasks:
        ranks = dict(zip(task.shown, task.expected or (), strict=False))
        for left, right in combinations(sorted(ranks), 2):
            better = ranks[right] - ranks[left]
            winner: Winner = "tie" if better == 0 else "left" if better > 0 else "right"
            gold[task.prompt.id, left, right] = winner
    return gold


def _accuracy(
    votes: Sequence[Vote], gold: Mapping[Pair, Winner], method: VoteMethod
) -> MethodAccuracy:
    verdicts = [item for item in aggregate_votes(votes, method).pairs if item.pair in gold]
    right = sum(item.winner == gold[item.pair] for item in verdicts)
    ties = sum(item.winner == "tie" for item in verdicts)
    losses = [
        -math.log(max(_LEAST, item.p_left if gold[item.pair] == "left" else 1 - item.p_left))
        for item in verdicts
        if gold[item.pair] != "tie"
    ]
    return _row(method, right, len(verdicts), ties, losses)


def _row(
    method: VoteMethod, right: int, known: int, ties: int, losses: Sequence[float]
) -> MethodAccuracy:
    accuracy = proportion(right, known)
    return MethodAccuracy(
        method=method,
        pairs=known,
        right=right,
        accuracy=accuracy.share,
        low=accuracy.low,
        high=accuracy.high,
        ties=ties,
        log_loss=math.fsum(losses) / len(losses) if losses else None,
    )

"""What each annotator's answers say about the annotator, and warnings in words."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from curation.annotator_warnings import AnnotatorRow, with_warnings
from curation.proportions import Proportion, proportion
from curation.votes import Vote, counted_judgements, votes_of
from schemas.labels import LabelTask
from schemas.records import Judgement

_PAUSE = 300.0
"""Seconds between two answers after which the annotator was away."""

Pair = tuple[str, str, str]


def annotator_report(
    judgements: Iterable[Judgement],
    tasks: Iterable[LabelTask] = (),
    *,
    question: str = "overall",
    excluded: Collection[str] = (),
    assisted: bool = False,
) -> list[AnnotatorRow]:
    """A row for each annotator who answered the question, in order of name.

    Tasks tell right gold answers and the lengths of texts. Excluded annotators have rows, but
    others are not compared with them. With `assisted`, answers given in sight of a machine's
    ranking count too.
    """
    by_id = {task.id: task for task in tasks}
    kept = counted_judgements(judgements, question=question, assisted=assisted).kept
    gold = [item for item in kept if item.purpose == "gold" and item.task_id in by_id]
    given: dict[str, list[bool]] = defaultdict(list)
    for judgement in gold:
        right = _expected(by_id[judgement.task_id or ""])
        given[judgement.annotator.name] += [
            vote.winner == right[vote.pair] for vote in votes_of([judgement])
        ]
    lengths = {
        candidate.text_id: len(candidate.completion.text)
        for task in by_id.values()
        for candidate in task.candidates
    }
    return _rows(
        votes_of(item for item in kept if item.purpose == "label"),
        also=votes_of(item for item in kept if item.purpose == "gold"),
        gold=given,
        lengths=lengths,
        seconds=_speeds(kept),
        excluded=excluded,
    )


def annotators_of_votes(
    votes: Sequence[Vote], *, lengths: Mapping[str, int] | None = None
) -> list[AnnotatorRow]:
    """The rows for votes of which no more is known; `lengths` are those of the sides' texts."""
    return _rows(votes, also=(), gold={}, lengths=lengths or {}, seconds={}, excluded=())


def _rows(
    votes: Sequence[Vote],
    *,
    also: Sequence[Vote],
    gold: Mapping[str, Sequence[bool]],
    lengths: Mapping[str, int],
    seconds: Mapping[str, float],
    excluded: Collection[str],
) -> list[AnnotatorRow]:
    """`also` are votes on gold pairs: they say how somebody answers, not how people agree."""
    given: dict[str, list[Vote]] = defaultdict(list)
    for vote in (*votes, *also):
        given[vote.annotator].append(vote)
    compared = _compared(votes, excluded)
    rows = []
    for name in sorted(given):
        own, (matched, chance) = given[name], compared.get(name, (proportion(0, 0), None))
        decided = [vote for vote in own if vote.winner != "tie"]
        row = AnnotatorRow(
            annotator=name,
            answers=len(own),
            gold=proportion(sum(gold.get(name, ())), len(gold.get(name, ()))),
            agreement=matched,
            agreement_by_chance=chance,
            first_shown=_first_shown(decided),
            order_changed=_order_changed(own),
            longer=_longer(decided, lengths),
            ties=proportion(len(own) - len(decided), len(own)),
            both_bad=sum(vote.both_bad for vote in own),
            seconds=seconds.get(name),
            excluded=name in excluded,
        )
        rows.append(row)
    return with_warnings(rows)


def _expected(task: LabelTask) -> dict[Pair, str]:
    """What a gold task's votes should be, by pair."""
    ranks = dict(zip(task.shown, task.expected or (), strict=True))
    pairs = ((a, b) for a in ranks for b in ranks if a < b)
    return {
        (task.prompt.id, a, b): "tie"
        if ranks[a] == ranks[b]
        else "left"
        if ranks[a] < ranks[b]
        else "right"
        for a, b in pairs
    }


def _compared(
    votes: Iterable[Vote], excluded: Collection[str]
) -> dict[str, tuple[Proportion, float | None]]:
    """Each annotator's agreement with what most others say, and how much of it chance would give.

    Of one annotator's answers to a pair the last is compared.
    """
    latest = {(vote.pair, vote.annotator): vote.winner for vote in votes}
    by_pair: dict[Pair, Counter[str]] = defaultdict(Counter)
    for (pair, annotator), winner in latest.items():
        if annotator not in excluded:
            by_pair[pair][winner] += 1
    met: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (pair, annotator), winner in latest.items():
        others = by_pair[pair].copy()
        if annotator not in excluded:
            others[winner] -= 1
        (most, count), (_, second), *_ = [*others.most_common(2), ("", 0), ("", 0)]
        if count > second:
            met[annotator].append((winner, most))
    found: dict[str, tuple[Proportion, float | None]] = {}
    for annotator, both in met.items():
        own, theirs = Counter(one for one, _ in both), Counter(other for _, other in both)
        chance = sum(own[label] * theirs[label] for label in own) / len(both) ** 2
        found[annotator] = (proportion(sum(one == other for one, other in both), len(both)), chance)
    return found


def _first_shown(decided: Iterable[Vote]) -> Proportion:
    seen = [vote for vote in decided if vote.shown_first is not None]
    return proportion(sum(vote.winner == vote.shown_first for vote in seen), len(seen))


def _order_changed(votes: Iterable[Vote]) -> Proportion:
    by_order: dict[Pair, dict[str, str]] = defaultdict(dict)
    for vote in votes:
        if vote.shown_first is not None:
            by_order[vote.pair][vote.shown_first] = vote.winner
    both = [orders for orders in by_order.values() if len(orders) == 2]
    return proportion(sum(orders["left"] != orders["right"] for orders in both), len(both))


def _longer(decided: Iterable[Vote], lengths: Mapping[str, int]) -> Proportion:
    longer = [
        (lengths[vote.left] > lengths[vote.right]) == (vote.winner == "left")
        for vote in decided
        if vote.left in lengths
        and vote.right in lengths
        and lengths[vote.left] != lengths[vote.right]
    ]
    return proportion(sum(longer), len(longer))


def _speeds(judgements: Iterable[Judgement]) -> dict[str, float]:
    times: dict[str, list[float]] = defaultdict(list)
    for judgement in judgements:
        if judgement.created_at is not None:
            times[judgement.annotator.name].append(judgement.created_at.timestamp())
    gaps = {
        name: [gap for one, next_ in pairwise(sorted(at)) if (gap := next_ - one) <= _PAUSE]
        for name, at in times.items()
    }
    return {name: statistics.median(found) for name, found in gaps.items() if found}

"""The posterior of each pair under each method, from tallies of canonical votes (left < right)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple, get_args

from curation.bradley_terry import Strengths, strengths
from curation.crowd import Coded, Consensus, coded, dawid_skene, mace
from curation.votes import Vote

VoteMethod = Literal["majority", "dawid-skene", "mace", "bradley-terry"]
METHODS: tuple[VoteMethod, ...] = get_args(VoteMethod)
Winner = Literal["left", "right", "tie"]
Pair = tuple[str, str, str]
"""Item, left, right, with left < right."""

PRIOR_LABELS = 2.0
"""Dawid-Skene sees so many labels a class before an annotator's own."""
_EQUAL = 1e-9
"""Posteriors that lie closer are equal."""
MIRROR: dict[str, str] = {"left": "right", "right": "left", "tie": "tie"}


class Posterior(NamedTuple):
    """What a method concludes about one pair."""

    p_left: float
    p_tie: float | None
    winner: Winner


class Fitted(NamedTuple):
    """What a method concludes from all votes."""

    posteriors: dict[Pair, Posterior]
    reliability: Mapping[str, float]
    strengths: list[tuple[str, Strengths]]
    """Bradley-Terry's, by item; empty for the other methods."""


def canonical(vote: Vote) -> Vote:
    """The same vote with left < right.

    Raises:
        ValueError: it compares a thing with itself.
    """
    if vote.left == vote.right:
        raise ValueError(
            f"item '{vote.item}': '{vote.annotator}' compares '{vote.left}' with itself; "
            "expected two different things"
        )
    if vote.left < vote.right:
        return vote
    return vote._replace(
        left=vote.right,
        right=vote.left,
        winner=_swapped(vote.winner),
        shown_first=None if vote.shown_first is None else _other_side(vote.shown_first),
    )


def _swapped(winner: Winner) -> Winner:
    return winner if winner == "tie" else _other_side(winner)


def _other_side(side: Literal["left", "right"]) -> Literal["left", "right"]:
    return "right" if side == "left" else "left"


def tallies_of(votes: Iterable[Vote]) -> dict[Pair, Counter[str]]:
    """How many votes each pair has for left, right and tie; and how many said both are bad."""
    tallies: dict[Pair, Counter[str]] = defaultdict(Counter)
    for vote in votes:
        tallies[vote.pair][vote.winner] += 1
        tallies[vote.pair]["both_bad"] += vote.both_bad
    return dict(tallies)


@cache
def majority_posterior(left: int, right: int, ties: int) -> Posterior:
    """The verdict of the most votes, and the probability that most people prefer left.

    Each vote is a draw from the share of people who prefer left, which is uniform before any vote;
    a tie is half a vote for each side. Where no answer has more votes than each other, it is a tie.
    """
    from scipy.special import betainc

    p_left = 1 - float(betainc(1 + left + ties / 2, 1 + right + ties / 2, 0.5))
    most = max(left, right, ties)
    winner: Winner = "tie"
    if [left, right, ties].count(most) == 1 and most != ties:
        winner = "left" if left == most else "right"
    return Posterior(0.5 if left == right else p_left, None, winner)


def of_tally(tally: Mapping[str, int]) -> Posterior:
    """The majority posterior of a pair's votes."""
    return majority_posterior(tally["left"], tally["right"], tally["tie"])


def _fit_majority(votes: Sequence[Vote], tallies: Mapping[Pair, Counter[str]]) -> Fitted:
    posteriors = {pair: of_tally(tally) for pair, tally in tallies.items()}
    return Fitted(posteriors, _agreement_with_others(votes, tallies), [])


def _fit_crowd(fit: Callable[[Coded], Consensus]) -> Callable[..., Fitted]:
    def fitted(votes: Sequence[Vote], tallies: Mapping[Pair, Counter[str]]) -> Fitted:
        pairs = sorted(tallies)
        name_of = {pair: f"{number:09d}" for number, pair in enumerate(pairs)}
        labels = ((name_of[vote.pair], vote.annotator, vote.winner) for vote in votes)
        found = fit(coded(labels, MIRROR))
        rows = found.posterior[:, [found.classes.index(name) for name in MIRROR]].tolist()
        posteriors = {pair: _of_classes(*row) for pair, row in zip(pairs, rows, strict=True)}
        return Fitted(posteriors, found.reliability, [])

    return fitted


def _of_classes(left: float, right: float, tie: float) -> Posterior:
    best, second = sorted((left, right, tie), reverse=True)[:2]
    winner: Winner = "tie"
    if best - second > _EQUAL and best != tie:
        winner = "left" if best == left else "right"
    return Posterior(left + tie / 2, tie, winner)


def _fit_bradley_terry(votes: Sequence[Vote], tallies: Mapping[Pair, Counter[str]]) -> Fitted:
    """Posteriors of strengths; a pair most of whose own votes are ties stays a tie."""
    fits = list(strengths(votes))
    place = {(item, name): (fit, at) for item, fit in fits for at, name in enumerate(fit.names)}
    posteriors = {}
    for pair, tally in tallies.items():
        (fit, left), (_, right) = place[pair[0], pair[1]], place[pair[0], pair[2]]
        p_left = fit.p_better(left, right)
        winner: Winner = "left" if p_left > 0.5 else "right"
        if abs(p_left - 0.5) < _EQUAL or tally["tie"] > max(tally["left"], tally["right"]):
            winner = "tie"
        posteriors[pair] = Posterior(p_left, None, winner)
    return Fitted(posteriors, _agreement_with_others(votes, tallies), fits)


def _agreement_with_others(
    votes: Sequence[Vote], tallies: Mapping[Pair, Counter[str]]
) -> dict[str, float]:
    """Each annotator's share of votes equal to the majority verdict of the others' votes.

    Only pairs count on which the others have a majority.
    """
    own: Counter[tuple[str, Pair, str]] = Counter(
        (vote.annotator, vote.pair, vote.winner) for vote in votes
    )
    agree: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for vote in votes:
        others = {
            side: tallies[vote.pair][side] - own[vote.annotator, vote.pair, side] for side in MIRROR
        }
        most = max(others.values())
        if most > 0 and list(others.values()).count(most) == 1:
            seen[vote.annotator] += 1
            agree[vote.annotator] += others[vote.winner] == most
    return {name: agree[name] / count for name, count in seen.items()}


FITS: dict[VoteMethod, Callable[..., Fitted]] = {
    "majority": _fit_majority,
    "dawid-skene": _fit_crowd(lambda data: dawid_skene(data, prior_labels=PRIOR_LABELS)),
    "mace": _fit_crowd(mace),
    "bradley-terry": _fit_bradley_terry,
}

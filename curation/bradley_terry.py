"""Strengths of things that were compared two by two: Bradley & Terry (1952).

Two fits. The scores that people read are maximum likelihood, by evalica. Probabilities come from a
fit with a prior, for a thing that never lost has no finite maximum likelihood. A tie is half a win
for each side. Axes: N things.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.votes import Vote

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]
    Codes = np.ndarray[Any, np.dtype[np.int64]]

PRIOR_VARIANCE = 1.6449340668482264
"""Of each log strength: pi squared over 6. The difference of two then varies as the log odds of a
share of wins that is uniform between 0 and 1."""


class Strengths(NamedTuple):
    """Things that votes connect, and the normal approximation to their log strengths."""

    names: tuple[str, ...]
    wins: "Array"
    """(N, N): how often the row's thing won against the column's; a tie is half."""
    mean: "Array"
    """(N), around zero."""
    covariance: "Array"
    """(N, N)."""

    def p_better(self, left: int, right: int) -> float:
        """The posterior that one is truly stronger, not the chance that it wins a vote."""
        variance = (
            self.covariance[left, left]
            + self.covariance[right, right]
            - 2 * self.covariance[left, right]
        )
        distance = float((self.mean[left] - self.mean[right]) / variance**0.5)
        return math.erfc(-distance / math.sqrt(2)) / 2


class ItemScore(NamedTuple):
    """How strong one thing is among those that votes connect it with."""

    item: str
    name: str
    strength: float
    """Log strength under the prior, around zero: the scale of `Ranking.scores`."""
    score: float
    """Their scores sum to 1: the chance to win against another is own / (own + other)."""
    low: float
    high: float
    votes: int
    regularised: bool
    """The votes give no finite maximum likelihood, so the score is the fit's with the prior."""


def strengths(votes: Sequence[Vote]) -> Iterator[tuple[str, Strengths]]:
    """Each item's things, a set that votes connect at a time, fitted with the prior."""
    for item, names, wins in _connected(votes):
        yield item, _fit(names, wins)


def item_scores(fits: Iterable[tuple[str, Strengths]], *, level: float = 0.95) -> list[ItemScore]:
    """Scores with intervals of what `strengths` fitted, the strongest of a connected set first.

    Intervals are on the log scale, from the fit's information. They cover what the voters as a
    whole would say, were votes drawn anew; that votes of one annotator hang together is not in
    them.
    """
    from scipy.special import ndtri

    width = float(ndtri((1 + level) / 2))
    return [row for item, fit in fits for row in _scores(item, fit, width)]


def _scores(item: str, fit: Strengths, width: float) -> list[ItemScore]:
    import numpy as np

    finite = _has_maximum(fit.wins)
    if finite:
        score = _maximum_likelihood(fit.wins)
        covariance = np.linalg.pinv(_information(fit.wins, np.log(score)), hermitian=True)
    else:
        score = np.exp(fit.mean) / np.exp(fit.mean).sum()
        covariance = fit.covariance
    # d log(score i) = d theta i - sum over j of score j * d theta j.
    change = np.eye(len(score)) - score
    spread = width * np.sqrt(np.diag(change @ covariance @ change.T))
    votes = (fit.wins + fit.wins.T).sum(axis=1).round().astype(int)
    low, high = score * np.exp(-spread), np.minimum(score * np.exp(spread), 1.0)
    rows = [
        ItemScore(
            item=item,
            name=name,
            strength=float(fit.mean[at]),
            score=float(score[at]),
            low=float(low[at]),
            high=float(high[at]),
            votes=int(votes[at]),
            regularised=not finite,
        )
        for at, name in enumerate(fit.names)
    ]
    return sorted(rows, key=lambda row: (-row.score, row.name))


def _maximum_likelihood(wins: "Array") -> "Array":
    import evalica
    import numpy as np

    if len(wins) == 2:
        pair = np.asarray([wins[0, 1], wins[1, 0]], dtype=np.float64)
        return np.asarray(pair / pair.sum())
    left, right = wins.nonzero()
    scores = evalica.bradley_terry(
        left.tolist(),
        right.tolist(),
        [evalica.Winner.X] * len(left),
        weights=wins[left, right].tolist(),
        tolerance=1e-12,
        limit=100_000,
    ).scores.sort_index()
    return np.asarray(scores.to_numpy() / scores.sum(), dtype=np.float64)


def _has_maximum(wins: "Array") -> bool:
    """Whether everything beat everything by some chain of wins (Ford, 1957)."""
    import numpy as np

    reaches = np.asarray((wins > 0) | np.eye(len(wins), dtype=bool), dtype=np.float64)
    for _ in range(len(wins).bit_length()):
        reaches = np.minimum(reaches @ reaches, 1.0)
    return bool(reaches.all())


def _fit(names: tuple[str, ...], wins: "Array") -> Strengths:
    """The mode under the prior by Newton's method, and the inverse of the curvature there."""
    import numpy as np

    games = wins + wins.T
    prior = np.eye(len(names)) / PRIOR_VARIANCE
    mean = np.zeros(len(names))
    for _ in range(100):
        expected = games * _logistic(mean)
        gradient = wins.sum(axis=1) - expected.sum(axis=1) - mean / PRIOR_VARIANCE
        step = np.linalg.solve(_information(wins, mean) + prior, gradient)
        # Longer steps can overshoot where the curve is flat.
        mean = mean + step / max(1.0, np.abs(step).max())
        if np.abs(step).max() < 1e-10:
            break
    covariance = np.asarray(np.linalg.inv(_information(wins, mean) + prior), dtype=np.float64)
    return Strengths(names, wins, mean, covariance)


def _logistic(mean: "Array") -> "Array":
    """(N, N): the chance that the row's thing wins a vote against the column's."""
    import numpy as np
    from scipy.special import expit

    return np.asarray(expit(mean[:, None] - mean[None, :]))


def _information(wins: "Array", mean: "Array") -> "Array":
    import numpy as np

    chance = _logistic(mean)
    weights = (wins + wins.T) * chance * (1 - chance)
    return np.asarray(np.diag(weights.sum(axis=1)) - weights)


def _connected(votes: Sequence[Vote]) -> Iterator[tuple[str, tuple[str, ...], "Array"]]:
    """By item, the names that votes connect, sorted, with their wins."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not votes:
        return
    names = sorted({(vote.item, name) for vote in votes for name in (vote.left, vote.right)})
    place = {name: at for at, name in enumerate(names)}
    left = np.array([place[vote.item, vote.left] for vote in votes])
    right = np.array([place[vote.item, vote.right] for vote in votes])
    share = np.array([_LEFT_SHARE[vote.winner] for vote in votes])
    shape = (len(names), len(names))
    count, group = connected_components(coo_matrix((np.ones(len(votes)), (left, right)), shape))
    inside = np.zeros(len(names), dtype=np.int64)
    for mine, rows in zip(_by_group(group, count), _by_group(group[left], count), strict=True):
        inside[mine] = np.arange(len(mine))
        wins = np.zeros((len(mine), len(mine)))
        np.add.at(wins, (inside[left[rows]], inside[right[rows]]), share[rows])
        np.add.at(wins, (inside[right[rows]], inside[left[rows]]), 1 - share[rows])
        yield names[mine[0]][0], tuple(names[at][1] for at in mine), wins


def _by_group(group: "Codes", count: int) -> "list[Codes]":
    """The positions of each group, in order."""
    import numpy as np

    order = np.argsort(group, kind="stable")
    return np.split(order, np.searchsorted(group[order], np.arange(1, count)))


_LEFT_SHARE = {"left": 1.0, "tie": 0.5, "right": 0.0}

"""Which pairs deserve another vote, and how many votes are still missing.

What a next vote will say is foretold from how far people agreed so far: each pair's shares of left,
right and tie are a draw from a Dirichlet distribution, the same for left and right, which is fitted
to all pairs. What a vote changes is measured by the majority posterior.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.posteriors import Pair, canonical, majority_posterior, tallies_of
from curation.votes import Vote

if TYPE_CHECKING:
    import numpy as np

    from curation.voting import PairVerdict

    Array = np.ndarray[Any, np.dtype[np.float64]]

MOST_VOTES = 60
"""A pair that is not decided by so many more votes counts as split."""
_REPLICATES = 40
_MOST_PAIRS = 5_000
"""So many pairs are simulated; more are scaled up."""
_LEAST_REPEATED = 10
"""Pairs with two votes or more, for how far people agree to be told."""


class Agreement(NamedTuple):
    """The Dirichlet distribution of a pair's shares of votes."""

    side: float
    """The weight of left, and of right."""
    tie: float
    fitted: bool
    """Too few pairs have two votes where this is False, and the shares are taken as uniform."""


class NextPair(NamedTuple):
    """A pair and what one more vote on it should tell."""

    pair: Pair
    votes: int
    gain: float
    """Expected loss of p (1 - p), the quadratic entropy of the majority posterior; at most 0.25."""


class LabelsNeeded(NamedTuple):
    """An estimate by simulation of how many more votes it takes."""

    labels: float | None
    """The median; None where most simulations do not get there within `MOST_VOTES` a pair."""
    low: float | None
    high: float | None
    """5% and 95% of the simulations; None is beyond reach."""
    pairs: int
    done: int
    """Pairs that meet the criterion now."""
    reachable: float
    """Share of pairs that meet it within `MOST_VOTES` more votes each."""
    note: str | None


def agreement_of(tallies: Iterable[Counter[str]]) -> Agreement:
    """How far people agree about a pair, by the likeliest Dirichlet distribution."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import gammaln

    shapes = Counter(sorted(_counts(tally) for tally in tallies))
    repeated = {counts: number for counts, number in shapes.items() if sum(counts) > 1}
    if sum(repeated.values()) < _LEAST_REPEATED:
        return Agreement(1.0, 1.0, fitted=False)
    counts = np.array(list(shapes), dtype=np.float64)
    weights = np.array(list(shapes.values()), dtype=np.float64)

    def cost(logs: "Array") -> float:
        weight = np.exp(logs)[[0, 0, 1]]
        each = (gammaln(counts + weight) - gammaln(weight)).sum(axis=1)
        total = gammaln(weight.sum()) - gammaln(weight.sum() + counts.sum(axis=1))
        # A weak pull towards uniform keeps the fit finite where all pairs are alike.
        return float(-(weights * (each + total)).sum() + 0.1 * (logs**2).sum())

    found = minimize(cost, np.zeros(2), method="L-BFGS-B", bounds=[(-5.0, 5.0)] * 2)
    side, tie = np.exp(found.x)
    return Agreement(float(side), float(tie), fitted=True)


def next_pairs(
    votes: Iterable[Vote], n: int, *, unvoted: Iterable[Pair] = (), skip: Iterable[Pair] = ()
) -> list[NextPair]:
    """The n pairs on which one more vote should tell most, the best first.

    `unvoted` are pairs to consider that have no vote yet, `skip` ones that cannot be asked again.
    Equal gains go by fewer votes, then by name.
    """
    tallies = tallies_of(canonical(vote) for vote in votes)
    for pair in unvoted:
        tallies.setdefault(_sorted_pair(pair), Counter())
    left_out = {_sorted_pair(pair) for pair in skip}
    agreement = agreement_of(tallies.values())
    gains = {
        counts: _gain(counts, agreement)
        for counts in {_counts(tally) for tally in tallies.values()}
    }
    ranked = [
        NextPair(pair, sum(_counts(tally)), gains[_counts(tally)])
        for pair, tally in tallies.items()
        if pair not in left_out
    ]
    return sorted(ranked, key=lambda item: (-item.gain, item.votes, item.pair))[:n]


def disagreements(verdicts: Iterable["PairVerdict"], *, settled: float = 0.75) -> list[Pair]:
    """The pairs that an adjudicator should see, the most doubtful first.

    They have two votes or more, of which fewer than the share `settled` agree, and no adjudicator
    has ruled yet. The nearer the posterior to 0.5, the more doubtful; then the more split.
    """

    def agreed(verdict: "PairVerdict") -> float:
        most = max(verdict.left_votes, verdict.right_votes, verdict.tie_votes)
        return most / verdict.votes

    split = [
        verdict
        for verdict in verdicts
        if not verdict.adjudicated and verdict.votes >= 2 and agreed(verdict) < settled
    ]
    split.sort(key=lambda item: (round(abs(item.p_left - 0.5), 9), agreed(item), item.pair))
    return [verdict.pair for verdict in split]


def labels_until_decided(
    votes: Iterable[Vote], *, certainty: float = 0.9, share: float = 0.8, seed: int = 0
) -> LabelsNeeded:
    """Votes until that share of the pairs has a posterior beyond `certainty` for one side.

    Each round asks once about every pair that is still open.

    Raises:
        ValueError: `certainty` is not above 0.5 and below 1, or `share` not above 0 and up to 1.
    """
    if not 0.5 < certainty < 1:
        raise ValueError(f"certainty is {certainty}; expected more than 0.5 and less than 1")

    def decided(left: "Array", right: "Array") -> "Array":
        import numpy as np
        from scipy.special import betainc

        p_right = betainc(1 + left, 1 + right, 0.5)
        return np.asarray((p_right >= certainty) | (p_right <= 1 - certainty))

    return _simulated(votes, decided, share, seed)


def labels_until_width(
    votes: Iterable[Vote], *, width: float, share: float = 0.8, seed: int = 0
) -> LabelsNeeded:
    """Votes until that share of the pairs is known to an interval of `width`.

    The interval is the 95% credible interval of the share of people who prefer one side, a tie
    counting half.

    Raises:
        ValueError: `width` is not between 0 and 1, or `share` not above 0 and up to 1.
    """
    if not 0 < width < 1:
        raise ValueError(f"width is {width}; expected more than 0 and less than 1")

    def narrow(left: "Array", right: "Array") -> "Array":
        import numpy as np
        from scipy.special import betaincinv

        low, high = (betaincinv(1 + left, 1 + right, tail) for tail in (0.025, 0.975))
        return np.asarray(high - low <= width)

    return _simulated(votes, narrow, share, seed)


def _simulated(
    votes: Iterable[Vote], met: Callable[["Array", "Array"], "Array"], share: float, seed: int
) -> LabelsNeeded:
    """First passage under `met`, for pairs drawn anew and agreement fitted anew each time."""
    import numpy as np

    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; expected more than 0 and at most 1")
    tallies = [_counts(tally) for tally in tallies_of(map(canonical, votes)).values()]
    if not tallies:
        return LabelsNeeded(None, None, None, 0, 0, 0.0, "no votes yet")
    now = np.array(tallies, dtype=np.float64)
    table = _met_table(met, int(2 * (now.sum(axis=1).max() + MOST_VOTES)))
    done = int((_first_met(now, np.zeros((len(now), 0, 3)), table) == 0).sum())
    rng = np.random.default_rng(seed)
    totals, reachable, fitted = [], [], True
    size = min(len(now), _MOST_PAIRS)
    for _ in range(_REPLICATES):
        drawn = now[rng.integers(len(now), size=size)]
        agreement = agreement_of(_tally(row) for row in drawn)
        fitted = fitted and agreement.fitted
        weights = np.array([agreement.side, agreement.side, agreement.tie])
        gammas = rng.standard_gamma(drawn + weights)
        shares = gammas / gammas.sum(axis=1, keepdims=True)
        answers = (rng.random((size, MOST_VOTES, 1)) > np.cumsum(shares, axis=1)[:, None, :2]).sum(
            axis=2
        )
        first = _first_met(drawn, np.eye(3)[answers], table)
        reachable.append(float((first <= MOST_VOTES).mean()))
        rounds = np.sort(first)[math.ceil(share * len(first)) - 1]
        within = rounds <= MOST_VOTES
        mean = float(np.minimum(first, rounds).mean())
        totals.append(mean * len(now) if within else math.inf)
    low, middle, high = np.quantile(totals, [0.05, 0.5, 0.95], method="inverted_cdf").tolist()
    return LabelsNeeded(
        labels=_finite(middle),
        low=_finite(low),
        high=_finite(high),
        pairs=len(now),
        done=done,
        reachable=float(np.mean(reachable)),
        note=None
        if fitted
        else "few pairs have two votes, so how far people agree is a guess: all shares alike",
    )


def _met_table(met: Callable[["Array", "Array"], "Array"], halves: int) -> "Array":
    """Whether `met`, by half votes for left and for right."""
    import numpy as np

    grid = np.arange(halves + 1) / 2
    return np.asarray(met(grid[:, None], grid[None, :]))


def _first_met(now: "Array", answers: "Array", table: "Array") -> "Array":
    """After how many answers (pairs, votes, 3) each pair meets the table; one more than all: never.

    `now` (pairs, 3) counts left, right and tie.
    """
    import numpy as np

    counts = np.concatenate([now[:, None, :], answers], axis=1).cumsum(axis=1)
    halves = (2 * counts[..., :2] + counts[..., 2:]).round().astype(np.int64)
    met = table[halves[..., 0], halves[..., 1]]
    never = np.ones((len(now), 1), dtype=bool)
    return np.asarray(np.concatenate([met, never], axis=1).argmax(axis=1))


def _gain(counts: tuple[int, int, int], agreement: Agreement) -> float:
    left, right, tie = counts
    weights = (agreement.side, agreement.side, agreement.tie)
    total = sum(counts) + sum(weights)
    after = ((left + 1, right, tie), (left, right + 1, tie), (left, right, tie + 1))
    expected = math.fsum(
        (count + weight) / total * _doubt(then)
        for count, weight, then in zip(counts, weights, after, strict=True)
    )
    return _doubt(counts) - expected


def _doubt(counts: tuple[int, int, int]) -> float:
    p_left = majority_posterior(*counts).p_left
    return p_left * (1 - p_left)


def _counts(tally: Counter[str]) -> tuple[int, int, int]:
    return (tally["left"], tally["right"], tally["tie"])


def _tally(row: Sequence[float]) -> Counter[str]:
    left, right, tie = map(int, row)
    return Counter(left=left, right=right, tie=tie)


def _sorted_pair(pair: Pair) -> Pair:
    item, left, right = pair
    return (item, min(left, right), max(left, right))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

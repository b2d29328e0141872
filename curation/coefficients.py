"""Agreement coefficients of many resamples at once; pure functions of counts.

Axes: P patterns of answers (items answered alike are one pattern), K labels, R resamples, N pairs
of annotators. `weights (R, P)` says how often each pattern is drawn; `counts (P, K)` how many
annotators gave each label, two or more a pattern. What is not defined is nan.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def percent_agreement(weights: Array, counts: Array) -> Array:
    """Of all pairs of answers to one item by two annotators, the share that is equal: `(R,)`."""
    equal = (counts * (counts - 1)).sum(1)
    return _ratio(weights @ equal, weights @ _ordered_pairs(counts))


def tie_discounted(weights: Array, counts: Array, tie: int) -> Array:
    """As `percent_agreement`, and half a point where one of the two, not both, is a tie: `(R,)`.

    Zhou et al. (2023), "LIMA", section 4.1.
    """
    total, ties = counts.sum(1), counts[:, tie]
    points = (counts * (counts - 1)).sum(1) + ties * (total - ties)
    return _ratio(weights @ points, weights @ _ordered_pairs(counts))


def fleiss_kappa(weights: Array, counts: Array) -> Array:
    """Fleiss (1971), `(R,)`.

    Where items have unequal numbers of answers each has its own: observed agreement is the mean
    over items, and a label's share is over all answers.
    """
    alike = (counts * (counts - 1)).sum(1) / _ordered_pairs(counts)
    observed = _ratio(weights @ alike, weights.sum(1))
    given = weights @ counts
    expected = ((given / given.sum(1, keepdims=True)) ** 2).sum(1)
    return _beyond_chance(observed, expected)


def nominal_alpha(weights: Array, counts: Array) -> Array:
    """Krippendorff's alpha for labels without an order, `(R,)`: Krippendorff (2018), 12.3."""
    totals = counts.sum(1)
    equal = (counts * (counts - 1)).sum(1) / (totals - 1)
    given = weights @ counts
    n = given.sum(1)
    alpha: Array = 1 - (n - 1) * _ratio(n - weights @ equal, n**2 - (given**2).sum(1))
    return alpha


def ordinal_alpha(weights: Array, counts: Array) -> Array:
    """Krippendorff's alpha for labels in ascending order, `(R,)`: Krippendorff (2018), 12.3."""
    labels = counts.shape[1]
    together = counts[:, :, None] * counts[:, None, :]
    together[:, range(labels), range(labels)] -= counts
    together /= (counts.sum(1) - 1)[:, None, None]
    coincidences = weights @ together.reshape(len(counts), -1)
    given = weights @ counts
    # Half of an answer's own rank lies below it, so the distance is one of mid-ranks.
    middle = np.cumsum(given, 1) - given / 2
    apart = (middle[:, :, None] - middle[:, None, :]) ** 2
    observed = (coincidences * apart.reshape(len(weights), -1)).sum(1)
    expected = ((given[:, :, None] * given[:, None, :]) * apart).sum((1, 2))
    alpha: Array = 1 - (given.sum(1) - 1) * _ratio(observed, expected)
    return alpha


def table_percent(tables: Array) -> Array:
    """The share on the diagonal of each table `(..., K, K)`."""
    return _ratio(np.trace(tables, axis1=-2, axis2=-1), tables.sum((-2, -1)))


def table_tie_discounted(tables: Array, tie: int) -> Array:
    """As `table_percent`, and half a point where one of the two, not both, is a tie."""
    both = tables[..., tie, tie]
    one = tables[..., tie, :].sum(-1) + tables[..., :, tie].sum(-1) - 2 * both
    points = np.trace(tables, axis1=-2, axis2=-1) + one / 2
    return _ratio(points, tables.sum((-2, -1)))


def cohen_kappa(tables: Array) -> Array:
    """Cohen (1960) of each table `(..., K, K)` of two annotators' labels."""
    total = tables.sum((-2, -1))
    by_chance = (tables.sum(-1) * tables.sum(-2)).sum(-1)
    return _beyond_chance(table_percent(tables), _ratio(by_chance, total**2))


def _ordered_pairs(counts: Array) -> Array:
    total = counts.sum(1)
    pairs: Array = total * (total - 1)
    return pairs


def _beyond_chance(observed: Array, expected: Array) -> Array:
    return _ratio(observed - expected, 1 - expected)


def _ratio(above: Any, below: Any) -> Array:
    """The quotient; nan where there is nothing below the line."""
    below = np.asarray(below, dtype=float)
    # What is left of 1 - 1 after rounding is nothing, too.
    nothing = np.abs(below) < 1e-12
    quotient: Array = np.where(nothing, np.nan, above / np.where(nothing, 1, below))
    return quotient

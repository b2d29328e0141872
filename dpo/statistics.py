"""Means over prompts with bootstrap intervals, and what holds at the limits.

The prompt is the unit that is resampled: samples of one prompt are not independent. No value leaves
here as NaN or infinity; what cannot be computed is None, and `note` says why.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.records import Record

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]

FEW_PROMPTS = 10
"""Under so many prompts a bootstrap interval is too narrow to lean on."""


class Resampling(NamedTuple):
    level: float
    resamples: int
    seed: int


class Estimate(Record):
    """A value over n prompts and its interval, the bias-corrected and accelerated bootstrap."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    n: int
    note: str | None = None

    @property
    def above_zero(self) -> bool:
        return self.low is not None and self.low > 0

    @property
    def below_zero(self) -> bool:
        return self.high is not None and self.high < 0

    @property
    def clear(self) -> bool:
        """Whether it leaves out zero and rests on prompts enough to be leant on."""
        return self.n >= FEW_PROMPTS and (self.above_zero or self.below_zero)


def mean_interval(values: Sequence[float], how: Resampling) -> Estimate:
    """The mean of one value a prompt.

    No value: all None. One value: the value, no interval. All values equal: an interval of no
    width, for resampling cannot vary.
    """
    return _estimate([values], _mean, how)


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], how: Resampling
) -> Estimate:
    """The sum of the numerators over the sum of the (positive) denominators, one of each a prompt.

    Limits as for a mean.
    """
    return _estimate([numerators, denominators], _ratio, how)


def intercept_interval(x: Sequence[float], y: Sequence[float], how: Resampling) -> Estimate:
    """The value at x = 0 of the least-squares line through one point a prompt.

    Under three prompts, or where every x is the same but not 0, there is no such line: all None.
    Where every x is 0 it is the mean of y.
    """
    if len(x) >= 1 and min(x) == max(x):
        if x[0] == 0:
            return mean_interval(y, how)
        return Estimate(mean=None, n=len(x), note="every prompt changed alike: no line to fit")
    if len(x) < 3:
        return Estimate(mean=None, n=len(x), note="a line needs three prompts")
    estimate = _estimate([x, y], _intercept, how)
    if min(x) > 0 or max(x) < 0:
        beyond = "no prompt lies at or on both sides of zero: extrapolated"
        note = beyond if estimate.note is None else f"{beyond}; {estimate.note}"
        return estimate.model_copy(update={"note": note})
    return estimate


def _estimate(
    columns: list[Sequence[float]], statistic: Callable[..., Any], how: Resampling
) -> Estimate:
    import numpy as np

    data = [np.asarray(column, dtype=np.float64) for column in columns]
    n = len(data[0])
    if n == 0:
        return Estimate(mean=None, n=0, note="no prompt to measure on")
    mean = float(statistic(*data))
    if n == 1:
        return Estimate(mean=mean, n=1, note="one prompt: no interval")
    if all(np.ptp(column) == 0 for column in data):
        note = "every prompt gives the same value"
        return Estimate(mean=mean, low=mean, high=mean, n=n, note=note)
    low, high, method = _bootstrap(data, statistic, how)
    notes = [] if n >= FEW_PROMPTS else [f"{n} prompts only: the true interval is wider"]
    if method != "BCa":
        notes.append("plain percentile interval")
    return Estimate(mean=mean, low=low, high=high, n=n, note="; ".join(notes) or None)


def _bootstrap(
    data: "list[Array]", statistic: Callable[..., Any], how: Resampling
) -> tuple[float, float, str]:
    """Low, high, method: BCa, or percentile where BCa is undefined (a lone outlier, say)."""
    import numpy as np
    from scipy.stats import bootstrap

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        result = bootstrap(
            data,
            statistic,
            paired=len(data) > 1,
            vectorized=True,
            n_resamples=how.resamples,
            batch=min(how.resamples, 1000),
            confidence_level=how.level,
            method="BCa",
            rng=np.random.default_rng(how.seed),
        )
        low, high = (float(bound) for bound in result.confidence_interval)
        if np.isfinite(low) and np.isfinite(high):
            return low, high, "BCa"
        tail = (1 - how.level) / 2
        low, high = np.quantile(result.bootstrap_distribution, [tail, 1 - tail])
    return float(low), float(high), "percentile"


def _mean(values: "Array", axis: int = -1) -> Any:
    return values.mean(axis=axis)


def _ratio(numerators: "Array", denominators: "Array", axis: int = -1) -> Any:
    return numerators.sum(axis=axis) / denominators.sum(axis=axis)


def _intercept(x: "Array", y: "Array", axis: int = -1) -> Any:
    """A resample in which every x is the same has slope 0."""
    import numpy as np

    mean_x, mean_y = x.mean(axis=axis, keepdims=True), y.mean(axis=axis, keepdims=True)
    spread = ((x - mean_x) ** 2).sum(axis=axis, keepdims=True)
    shared = ((x - mean_x) * (y - mean_y)).sum(axis=axis, keepdims=True)
    slope = np.divide(shared, spread, out=np.zeros_like(shared), where=spread > 0)
    return (mean_y - slope * mean_x).squeeze(axis)

"""Shares of counted things, with intervals that know how few they are."""

import math
from statistics import NormalDist

from schemas.records import Record


class Proportion(Record):
    """A share with its Wilson interval at 95 %; without cases it is not known."""

    count: int
    of: int
    share: float | None
    low: float | None
    high: float | None

    def is_above(self, neutral: float) -> bool:
        """Whether a 99 % interval lies above: many are looked at, and some stray by chance."""
        return self.of > 0 and _wilson(self.count, self.of, 0.99)[0] > neutral

    def is_below(self, neutral: float) -> bool:
        """Whether a 99 % interval lies below."""
        return self.of > 0 and _wilson(self.count, self.of, 0.99)[1] < neutral

    def __str__(self) -> str:
        if self.share is None or self.low is None or self.high is None:
            return "not known"
        return f"{self.share:.0%} of {self.of} (95% interval {self.low:.0%} to {self.high:.0%})"


def proportion(count: int, of: int) -> Proportion:
    """The share of `count` in `of` with its interval."""
    if not of:
        return Proportion(count=0, of=0, share=None, low=None, high=None)
    low, high = _wilson(count, of, 0.95)
    return Proportion(count=count, of=of, share=count / of, low=low, high=high)


def _wilson(count: int, of: int, level: float) -> tuple[float, float]:
    """Wilson (1927); unlike the plain interval it is right for few cases and shares near 0 or 1."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, slack = count / of, z * z / of
    middle = share + slack / 2
    half = math.sqrt(share * (1 - share) * slack + slack * slack / 4)
    return (middle - half) / (1 + slack), (middle + half) / (1 + slack)

"""Bootstrap intervals against scipy called another way, published theory, and their limits."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpo.statistics import Estimate, Resampling, intercept_interval, mean_interval, ratio_interval

HOW = Resampling(level=0.95, resamples=2000, seed=7)
VALUES = [0.1, 0.4, -0.2, 0.9, 0.3, 0.0, 0.5, 0.7, -0.1, 0.2, 0.6, 0.35]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_mean_interval_is_the_bca_interval_of_scipy() -> None:
    expected = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(7)
    ).confidence_interval
    found = mean_interval(VALUES, HOW)
    assert found.mean == pytest.approx(sum(VALUES) / 12)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.n, found.note) == (12, None)


def test_mean_interval_is_near_the_t_interval_where_values_are_normal() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, size=200)
    found = mean_interval(list(values), HOW)
    expected = stats.t.interval(0.95, 199, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.05)


def test_no_value_gives_no_estimate() -> None:
    found = mean_interval([], HOW)
    assert (found.mean, found.low, found.high, found.n) == (None, None, None, 0)
    assert found.note


def test_one_value_gives_no_interval() -> None:
    found = mean_interval([0.5], HOW)
    assert (found.mean, found.low, found.high, found.n) == (0.5, None, None, 1)
    assert found.note


def test_equal_values_give_an_interval_of_no_width() -> None:
    found = mean_interval([0.5] * 20, HOW)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert found.note


def test_few_prompts_are_noted() -> None:
    assert "3 prompts only" in (mean_interval([0.1, 0.2, 0.4], HOW).note or "")


def test_percentile_stands_in_where_bca_is_undefined() -> None:
    found = mean_interval([0.0, 1e-300, 0.0], HOW)
    assert (found.low, found.high) == (0.0, 1e-300)
    assert "percentile" in (found.note or "")


def test_same_seed_gives_same_interval_and_another_seed_another() -> None:
    assert mean_interval(VALUES, HOW) == mean_interval(VALUES, HOW)
    assert mean_interval(VALUES, HOW) != mean_interval(VALUES, HOW._replace(seed=8))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, -3.0, 1e-9, 1e9]), max_size=8))
def test_no_nan_no_infinity_and_no_warning_leak(values: list[float]) -> None:
    how = HOW._replace(resamples=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in (
            mean_interval(values, how),
            ratio_interval(values, [1.0 + index for index in range(len(values))], how),
            intercept_interval(values, values[::-1], how),
        ):
            for number in (found.mean, found.low, found.high):
                assert number is None or math.isfinite(number)
            assert found.low is None or found.high is None or found.low <= found.high


def test_ratio_weighs_prompts_by_their_denominator() -> None:
    found = ratio_interval([1.0, 6.0], [10.0, 20.0], HOW)
    assert found.mean == pytest.approx(7 / 30)


def test_ratio_interval_is_near_the_delta_method() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(50, 150, size=300).astype(float)
    sums = tokens * rng.normal(0.1, 0.02, size=300)
    found = ratio_interval(list(sums), list(tokens), HOW)
    ratio = sums.sum() / tokens.sum()
    error = (sums - ratio * tokens).std(ddof=1) / tokens.mean() / math.sqrt(300)
    assert found.mean == pytest.approx(ratio)
    assert found.low == pytest.approx(ratio - 1.96 * error, abs=error / 4)
    assert found.high == pytest.approx(ratio + 1.96 * error, abs=error / 4)


def test_intercept_is_that_of_linregress_and_its_interval_near_the_classic_one() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(5.0, 10.0, size=200)
    y = 0.3 - 0.02 * x + rng.normal(0.0, 0.2, size=200)
    line = stats.linregress(x, y)
    half = stats.t.ppf(0.975, 198) * line.intercept_stderr
    found = intercept_interval(list(x), list(y), HOW)
    assert found.mean == pytest.approx(line.intercept)
    assert found.low == pytest.approx(line.intercept - half, abs=half / 4)
    assert found.high == pytest.approx(line.intercept + half, abs=half / 4)


def test_intercept_without_any_change_in_x_is_the_mean() -> None:
    assert intercept_interval([0.0] * 12, VALUES, HOW) == mean_interval(VALUES, HOW)


def test_intercept_where_x_changed_alike_everywhere_is_unknown() -> None:
    found = intercept_interval([3.0] * 12, VALUES, HOW)
    assert found.mean is None
    assert "alike" in (found.note or "")


def test_intercept_beyond_the_data_is_noted() -> None:
    found = intercept_interval([float(x) for x in range(1, 13)], VALUES, HOW)
    assert "extrapolated" in (found.note or "")


@pytest.mark.parametrize(
    ("low", "high", "n", "clear"),
    [(0.1, 0.3, 10, True), (-0.3, -0.1, 40, True), (-0.1, 0.3, 40, False), (0.1, 0.3, 9, False)],
)
def test_a_change_is_clear_only_where_prompts_enough_stand_behind_it(
    low: float, high: float, n: int, clear: bool
) -> None:
    assert Estimate(mean=0.1, low=low, high=high, n=n).clear is clear

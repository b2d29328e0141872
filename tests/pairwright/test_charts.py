"""Charts are well-formed, the same each time, and take what data there is."""

import warnings
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from pairwright.report.charts import (
    Dot,
    Series,
    ShareDot,
    confidence_bars,
    count_bars,
    dot_plot,
    histogram,
    scatter_with_line,
    share_plot,
    shares_bar,
    sorted_bars,
)
from pairwright.report.curves import Bin, Line, calibration, curve, curves, frontier

CHARTS: list[Callable[[], str]] = [
    lambda: dot_plot([Dot("all", 0.1, -0.1, 0.3), Dot("one", -0.2, -0.3, -0.1)], "gain"),
    lambda: dot_plot([Dot("no interval", 0.1, None, None)], "gain"),
    lambda: dot_plot([Dot("<b>&$x_1$ 日本語", 0.0, 0.0, 0.0)], "gain"),
    lambda: share_plot([ShareDot("ann", 0.8, 0.6, 0.9, 0.4, False)], "as most others"),
    lambda: share_plot([ShareDot("<b>&$x_1$ 日本語", 1.0, 0.7, 1.0, None, True)] * 40, "first"),
    lambda: count_bars([("all agree", 1234), ("none", 0)], "pairs"),
    lambda: count_bars([("none", 0)], "pairs"),
    lambda: confidence_bars([0.5, 0.51, 0.99, 1.0], "probability"),
    lambda: sorted_bars([0.3, -0.1, 0.0], "gain"),
    lambda: sorted_bars([0.1] * 5000, "gain"),
    lambda: shares_bar([("win", 0.5, "#000"), ("tie", 0.0, "#111"), ("loss", 0.5, "#222")]),
    lambda: scatter_with_line(Series([1, 2, 3], [0.1, 0.2, 0.3]), 0.1, 0.0, ("x", "y")),
    lambda: scatter_with_line(Series([1], [0.1]), None, None, ("x", "y")),
    lambda: histogram([0.0], 0.0, "KL"),
    lambda: histogram([0.1, 0.2, 0.4], 0.2, "KL"),
    lambda: curve(Series([1], [0.7]), "loss"),
    lambda: curves(
        [
            Line("training", Series([1, 2, 3], [0.1, 0.2, 0.3]), "#000"),
            Line("<b>&$x_1$", Series([1, 3], [0.1, 0.1]), "#111", sparse=True),
        ],
        "reward",
        0.0,
        "step",
    ),
    lambda: frontier([("reward", [Line("", Series([-0.01, 0.0, 0.4], [0.1, 0.5, 0.3]), "#000")])]),
    lambda: frontier(
        [
            ("reward", [Line("a", Series([0.0], [0.1]), "#000")] * 2),
            ("watched", [Line("b", Series([0.1] * 5000, [0.2] * 5000), "#111")]),
        ]
    ),
    lambda: calibration(
        [Bin(1, 0.52, 0.0, 0.0, 0.8), Bin(900, 0.99, 1.0, 0.98, 1.0)], ("a", "b"), "n"
    ),
    lambda: calibration([Bin(3, 0.5, 0.5, 0.2, 0.8)], ("a", "b"), "n"),
    lambda: curve(Series(range(10_000), [1 / (1 + x) for x in range(10_000)]), "loss", 0.5),
]


@pytest.mark.parametrize("draw", CHARTS)
def test_chart_is_well_formed_small_and_always_the_same(draw: Callable[[], str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = draw()
    ElementTree.fromstring(text)
    assert text.startswith("<svg")
    assert len(text) < 700_000
    assert text == draw()


def test_label_is_shown_as_it_is() -> None:
    (label,) = [
        element.text
        for element in ElementTree.fromstring(CHARTS[2]()).iter("{http://www.w3.org/2000/svg}text")
        if "日本語" in (element.text or "")
    ]
    assert label == "<b>&$x_1$ 日本語"

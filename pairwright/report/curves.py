"""Charts of a training: values over its steps, reward against KL, a model against its labels."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pairwright.report.charts import (
    BASE,
    FAINT,
    INK,
    NARROW,
    POLICY,
    WIDTH,
    Series,
    stacked_svg,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_STOPS, _MOST_STOPS, _STEPS_A_STOP = 5, 24, 3
"""Points of a frontier: each is the mean of as many steps as it takes, so that noise is small."""


class Line(NamedTuple):
    """A named series; a sparse one was measured at some steps only."""

    name: str
    points: Series
    colour: str
    sparse: bool = False


class Bin(NamedTuple):
    """Predictions that are about alike, and what came of them."""

    n: int
    predicted: float
    observed: float
    low: float
    high: float
    """The interval of what was observed."""


def curve(
    points: Series, title: str, reference: float | None = None, unit: str = "optimiser step"
) -> str:
    """A value over steps, faint as it was and strong as a running mean."""
    return curves([Line("", points, POLICY)], title, reference, unit)


def curves(
    lines: Sequence[Line], title: str, reference: float | None = None, unit: str = "optimiser step"
) -> str:
    """Values over steps on one scale, each faint as it was and strong as a running mean."""

    def draw(axes: "Axes") -> None:
        if reference is not None:
            axes.axhline(reference, color=BASE, linewidth=0.9, linestyle=(0, (3, 2)))
        for line in lines:
            _draw_line(axes, line)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_title(title, loc="left", fontsize=10)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel(unit)
        if len(lines) > 1:
            _legend(axes)

    return svg(draw, 2.0, NARROW)


def frontier(panels: Sequence[tuple[str, Sequence[Line]]]) -> str:
    """Values against KL, one panel a scale, each line in the order of its steps.

    A point is the mean over equally many steps, of a sparse line over one where they are few. x is
    KL in nats a token on a square-root scale, the axis of Gao et al. (2023), figure 1; an estimate
    below 0 is drawn at 0.
    """
    from matplotlib.ticker import MaxNLocator

    # Room on the right for the word `end`.
    furthest = 1.25 * max(0.001, *(max(line.points.x) for _, lines in panels for line in lines))

    def draw(label: str, lines: Sequence[Line], is_last: bool) -> Callable[["Axes"], None]:
        def on(axes: "Axes") -> None:
            for number, line in enumerate(lines):
                _draw_path(axes, line, named=number == 0)
            axes.set_xscale("function", functions=(_root, _square))
            axes.set_xlim(0, furthest)
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.margins(y=0.22)
            axes.grid(color=FAINT, linewidth=0.7)
            axes.set_axisbelow(True)
            axes.set_title(label, loc="left", fontsize=10)
            axes.locator_params(axis="y", nbins=4)
            if len(lines) > 1:
                _legend(axes)
            if is_last:
                axes.set_xlabel("KL to the SFT model, nats a token (square-root scale)")

        return on

    draws = [
        draw(label, lines, number == len(panels) - 1)
        for number, (label, lines) in enumerate(panels)
    ]
    return stacked_svg(draws, [1.0] * len(panels), 0.5 + 1.6 * len(panels), WIDTH)


def calibration(bins: Sequence[Bin], labels: tuple[str, str], counts: str) -> str:
    """What was observed against what was predicted, with the diagonal, over the counts."""
    from matplotlib.ticker import PercentFormatter

    def draw(axes: "Axes") -> None:
        axes.plot([0.5, 1], [0.5, 1], color=BASE, linewidth=0.9, linestyle=(0, (3, 2)))
        for item in bins:
            axes.plot([item.predicted] * 2, [item.low, item.high], color=POLICY, linewidth=1.4)
        axes.plot(
            [item.predicted for item in bins],
            [item.observed for item in bins],
            "o",
            color=POLICY,
            markersize=5,
        )
        axes.set_ylim(min(0.45, *(item.low for item in bins)) - 0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_ylabel(labels[1])

    def count(axes: "Axes") -> None:
        bars = axes.bar(
            [item.predicted for item in bins],
            [item.n for item in bins],
            width=0.03,
            color=POLICY,
            alpha=0.55,
        )
        axes.bar_label(bars, [f"{item.n:,}" for item in bins], padding=2, fontsize=8)
        axes.margins(y=0.45)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(0.49, 1.01)
        axes.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1], ["50%", "60%", "70%", "80%", "90%", "100%"])
        axes.set_ylabel(counts)
        axes.set_xlabel(labels[0])

    return stacked_svg([draw, count], [3.4, 1.0], 3.6)


def _legend(axes: "Axes") -> None:
    """The names of the lines, in a band of their own above them."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))
    axes.legend(
        fontsize=8, loc="upper left", ncols=2, handlelength=1.2, columnspacing=1.2, borderpad=0.1
    )


def _draw_line(axes: "Axes", line: Line) -> None:
    steps, values = _binned(line.points)
    label = line.name or None
    if line.sparse:
        axes.plot(steps, values, ":", color=line.colour, linewidth=1.4)
        axes.plot(steps, values, "o", color=line.colour, markersize=3.5, label=label)
        return
    marker = "o" if len(steps) < 12 else ""
    axes.plot(steps, values, color=line.colour, alpha=0.3, linewidth=1, marker=marker, markersize=3)
    axes.plot(steps, _running_mean(values), color=line.colour, linewidth=1.8, label=label)


def _draw_path(axes: "Axes", line: Line, *, named: bool) -> None:
    stops = max(_FEWEST_STOPS, len(line.points.x) // (1 if line.sparse else _STEPS_A_STOP))
    kl, values = _binned(line.points, min(stops, _MOST_STOPS))
    x = [max(0.0, value) for value in kl]
    axes.plot(x, values, "-", color=line.colour, alpha=0.55, linewidth=1.3)
    axes.plot(x, values, "o", color=line.colour, markersize=3, label=line.name or None)
    start: dict[str, Any] = {
        "color": "white",
        "markeredgecolor": line.colour,
        "markersize": 7,
        "zorder": 4,
    }
    axes.plot(x[:1], values[:1], "o", **start)
    axes.plot(x[-1:], values[-1:], "s", color=line.colour, markersize=7, zorder=4)
    if named:
        near: dict[str, Any] = {"textcoords": "offset points", "color": INK, "fontsize": 8}
        rises = len(values) > 1 and values[1] > values[0]
        axes.annotate("start", (x[0], values[0]), (6, -12 if rises else 6), **near)
        axes.annotate("end", (x[-1], values[-1]), (7, 0), va="center", **near)


def _root(values: "object") -> "object":
    import numpy as np

    return np.sqrt(np.maximum(values, 0))  # type: ignore[call-overload]


def _square(values: "object") -> "object":
    import numpy as np

    return np.square(values)  # type: ignore[call-overload]


def _binned(points: Series, most: int = 300) -> tuple[list[float], list[float]]:
    """Means over equal runs of steps, so that long trainings stay small."""
    size = -(-len(points.x) // most) or 1
    edges = [*range(0, len(points.x), size), len(points.x)]
    spans = [(start, end) for start, end in pairwise(edges) if end > start]
    return tuple(  # type: ignore[return-value]
        [sum(values[start:end]) / (end - start) for start, end in spans]
        for values in (points.x, points.y)
    )


def _running_mean(values: Sequence[float]) -> list[float]:
    """Over the last tenth of the steps."""
    window = max(1, len(values) // 10)
    return [
        sum(values[max(0, end - window) : end]) / min(end, window)
        for end in range(1, len(values) + 1)
    ]

"""Charts as SVG text: no clock, no scripts, the same bytes for the same data."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POLICY, BASE, WORSE, INK, FAINT = "#1d4ed8", "#94a3b8", "#c2410c", "#334155", "#e2e8f0"
WIDTH, NARROW = 4.6, 3.3
"""Inches: sizes at which text stays readable where a phone shows the chart."""
_MOST_POINTS = 500
_STYLE: Any = {
    "svg.hashsalt": "pairwright",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": BASE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


class Dot(NamedTuple):
    """A row of a dot plot; low and high are None where there is no interval."""

    label: str
    value: float
    low: float | None
    high: float | None


class ShareDot(NamedTuple):
    """A row of a plot of shares, with its interval and what it is to be compared with."""

    label: str
    share: float
    low: float
    high: float
    expected: float | None
    """Marked by an upright stroke."""
    odd: bool
    """Drawn in the colour of what deserves a look."""


class Series(NamedTuple):
    x: Sequence[float]
    y: Sequence[float]


def dot_plot(dots: Sequence[Dot], label: str) -> str:
    """One row a dot with its interval and a line at zero; the first row is set apart."""
    height = 0.7 + 0.27 * len(dots)

    def draw(axes: "Axes") -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, dot in enumerate(dots):
            colour = verdict_colour(dot)
            if dot.low is not None and dot.high is not None:
                axes.plot([dot.low, dot.high], [row, row], color=colour, linewidth=1.8)
            size = 7 if row == 0 else 5
            axes.plot([dot.value], [row], "o", color=colour, markersize=size)
        if len(dots) > 1:
            axes.axhline(0.5, color=FAINT, linewidth=1)
        axes.set_yticks(range(len(dots)), [dot.label for dot in dots])
        axes.set_ylim(len(dots) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel(label)

    return svg(draw, height)


def share_plot(dots: Sequence[ShareDot], label: str) -> str:
    """One row a dot from 0 to 100 %, with its interval and a stroke at what is expected."""
    height = 0.75 + 0.27 * len(dots)

    def draw(axes: "Axes") -> None:
        for row, dot in enumerate(dots):
            colour = WORSE if dot.odd else POLICY
            axes.plot([dot.low, dot.high], [row, row], color=colour, linewidth=1.8)
            axes.plot([dot.share], [row], "o", color=colour, markersize=5)
            if dot.expected is not None:
                axes.plot([dot.expected] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=1.1)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_yticks(range(len(dots)), [dot.label for dot in dots])
        axes.set_ylim(len(dots) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel(label)

    return svg(draw, height)


def count_bars(counts: Sequence[tuple[str, int]], label: str) -> str:
    """One bar a name with its count at the end."""
    height = 0.65 + 0.32 * len(counts)

    def draw(axes: "Axes") -> None:
        rows = range(len(counts))
        bars = axes.barh(rows, [count for _, count in counts], color=POLICY, alpha=0.75, height=0.6)
        axes.bar_label(bars, [f"{count:,}" for _, count in counts], padding=4)
        axes.set_yticks(rows, [name for name, _ in counts])
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=5, integer=True)
        axes.set_xlabel(label)

    return svg(draw, height)


def confidence_bars(probabilities: Sequence[float], label: str) -> str:
    """How many pairs there are by their probability, in ten steps from a half to one."""

    def draw(axes: "Axes") -> None:
        edges = [0.5 + step / 20 for step in range(11)]
        axes.hist(probabilities, bins=edges, color=POLICY, alpha=0.75, edgecolor="white")
        axes.set_xlim(0.5, 1)
        axes.locator_params(axis="y", nbins=5, integer=True)
        axes.set_xlabel(label)
        axes.set_ylabel("pairs")

    return svg(draw, 2.2)


def sorted_bars(values: Sequence[float], label: str) -> str:
    """One bar a value, smallest first, coloured by sign."""
    ordered = _thinned(sorted(values))

    def draw(axes: "Axes") -> None:
        colours = [POLICY if value > 0 else WORSE if value < 0 else BASE for value in ordered]
        axes.bar(range(len(ordered)), ordered, width=0.85, color=colours)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel("one bar a prompt, worst to best")
        axes.set_ylabel(label)

    return svg(draw, 2.2)


def shares_bar(shares: Sequence[tuple[str, float, str]]) -> str:
    """One bar split into labelled, coloured shares."""

    def draw(axes: "Axes") -> None:
        start = 0.0
        for name, share, colour in shares:
            axes.barh([0], [share], left=[start], color=colour, height=0.7, edgecolor="white")
            if share >= 0.09:
                middle = start + share / 2
                axes.text(middle, 0, f"{share:.0%}", ha="center", va="center", color="white")
                axes.text(middle, -0.62, name, ha="center", va="center")
            start += share
        axes.axvline(0.5, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.9, 0.5)
        axes.axis("off")

    return svg(draw, 0.85)


def scatter_with_line(
    points: Series, slope: float | None, intercept: float | None, labels: tuple[str, str]
) -> str:
    """The points, zero lines, and a line through them where it is known."""

    def draw(axes: "Axes") -> None:
        axes.axhline(0, color=BASE, linewidth=0.8)
        axes.axvline(0, color=BASE, linewidth=0.8)
        axes.plot(
            _thinned(points.x),
            _thinned(points.y),
            "o",
            color=POLICY,
            alpha=0.45,
            markersize=4,
            markeredgewidth=0,
        )
        if slope is not None and intercept is not None:
            ends = [min(0.0, *points.x), max(0.0, *points.x)]
            axes.plot(ends, [intercept + slope * x for x in ends], color=INK, linewidth=1.2)
            axes.plot([0], [intercept], "D", color=WORSE, markersize=6, zorder=5)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])

    return svg(draw, 2.6)


def histogram(values: Sequence[float], mark: float, label: str) -> str:
    """How the values spread, with a line at the mark."""

    def draw(axes: "Axes") -> None:
        axes.hist(values, bins=min(24, max(5, len(values) // 3)), color=POLICY, alpha=0.75)
        axes.axvline(mark, color=INK, linewidth=1.2)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.set_ylabel("answers")

    return svg(draw, 2.2)


def verdict_colour(dot: Dot) -> str:
    if dot.low is not None and dot.low > 0:
        return POLICY
    if dot.high is not None and dot.high < 0:
        return WORSE
    return BASE


def _thinned(values: Sequence[float]) -> Sequence[float]:
    """At most so many values as a chart can show, evenly taken."""
    return values[:: -(-len(values) // _MOST_POINTS) or 1]


def svg(draw: "Callable[[Axes], None]", height: float, width: float = WIDTH) -> str:
    """The drawing as an `<svg>` element; its ids come from its own content."""
    return stacked_svg([draw], [1.0], height, width)


def stacked_svg(
    draws: "Sequence[Callable[[Axes], None]]",
    heights: Sequence[float],
    height: float,
    width: float = WIDTH,
) -> str:
    """Drawings above each other on one horizontal axis, with these shares of the height."""
    import matplotlib
    from matplotlib.figure import Figure

    sink = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Labels in scripts that matplotlib's own font lacks: the browser has fonts for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(width, height), layout="constrained")
        rows = figure.subplots(
            len(draws), squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
        )
        for draw, (axes,) in zip(draws, rows, strict=True):
            draw(axes)
        figure.savefig(
            sink,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = sink.getvalue()
    # Group names repeat from chart to chart, and a page may hold an id once only.
    return re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :]).strip()

"""The report across rounds as one self-contained page, in the look of a run's report."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo.statistics import Estimate
from pairwright.report import charts
from pairwright.report.page import environment
from pairwright.rounds.figures import RoundFigures, RoundsFindings
from pairwright.written import literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TEMPLATE = "rounds.html.jinja"
Point = tuple[int, float, float | None, float | None]
"""Round, value, and its interval where there is one."""


def render(found: RoundsFindings) -> str:
    """The page about these findings, which may be of rounds that are not finished."""
    page: str = (
        environment()
        .get_template(_TEMPLATE)
        .render(
            found=found,
            name=literal(found.folder.resolve().name),
            charts=draw_charts(found),
            last=found.measured[-1] if found.measured and found.first else None,
            commands=_commands(found),
        )
    )
    return page


def draw_charts(found: RoundsFindings) -> dict[str, Any]:
    """Safe SVG by name; a chart that has nothing to show is left out."""
    from markupsafe import Markup

    rows = found.rounds
    drawn = {
        "reward": _by_round(
            [*_estimates([(0, found.first)]), *_estimates([(r.number, r.reward) for r in rows])],
            "held-out reward",
        ),
        "gain": _by_round(
            _estimates([(r.number, r.gain) for r in rows]), "gain of the round", zero=True
        ),
        "kl": _by_round(
            [(0, 0.0, None, None), *_estimates([(r.number, r.kl_to_first) for r in rows])],
            "KL to the first model, nats a token",
        ),
        "tokens": _by_round(
            [*_start(found.first_tokens), *_values(rows, lambda row: row.tokens)],
            "tokens an answer",
            least=0,
        ),
        "distinct": _by_round(
            _values(rows, lambda row: row.distinct_2), "distinct-2", least=0, most=1
        ),
        "ties": _by_round(
            _values(rows, lambda row: row.ties), "share of prompts all tied", least=0, most=1
        ),
        "agreement": _by_round(_agreement(rows), "Krippendorff's alpha", most=1),
        "labels": _by_round(
            _values(rows, lambda row: row.labels), "new answers of people", least=0
        ),
    }
    return {name: Markup(svg) for name, svg in drawn.items() if svg is not None}


def _estimates(values: Sequence[tuple[int, Estimate | None]]) -> list[Point]:
    return [
        (number, one.mean, one.low, one.high)
        for number, one in values
        if one is not None and one.mean is not None
    ]


def _start(value: float | None) -> list[Point]:
    return [] if value is None else [(0, value, None, None)]


def _values(
    rows: Sequence[RoundFigures], value: Callable[[RoundFigures], float | None]
) -> list[Point]:
    return [(row.number, found, None, None) for row in rows if (found := value(row)) is not None]


def _agreement(rows: Sequence[RoundFigures]) -> list[Point]:
    return [
        (row.number, one.value, one.low, one.high)
        for row in rows
        if (one := row.agreement) is not None and one.value is not None
    ]


def _by_round(
    points: Sequence[Point],
    label: str,
    *,
    zero: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> str | None:
    """Points joined by a line, each with its interval; None where no round has a value.

    With `zero`, a line at zero, and each point in the colour of what its interval says. `least` and
    `most` are shown whatever the values are.
    """
    if not any(number for number, *_ in points):
        return None

    def draw(axes: "Axes") -> None:
        rounds = [number for number, *_ in points]
        if zero:
            axes.axhline(0, color=charts.INK, linewidth=0.8)
        else:
            axes.plot(rounds, [value for _, value, *_ in points], color=charts.POLICY, alpha=0.45)
        for number, value, low, high in points:
            colour = charts.POLICY
            if zero:
                colour = charts.verdict_colour(charts.Dot("", value, low, high))
            if low is not None and high is not None:
                axes.plot([number, number], [low, high], color=colour, linewidth=1.8)
            axes.plot([number], [value], "o", color=colour, markersize=6)
        axes.set_xticks(
            _ticks(max(rounds), min(rounds)),
            ["start" if tick == 0 else str(tick) for tick in _ticks(max(rounds), min(rounds))],
        )
        axes.grid(axis="y", color=charts.FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.update_datalim([(rounds[0], end) for end in (least, most) if end is not None])
        axes.autoscale_view()
        axes.set_xlim(min(rounds) - 0.4, max(rounds) + 0.4)
        axes.locator_params(axis="y", nbins=5)
        axes.set_xlabel("round")
        axes.set_title(label, loc="left", fontsize=9)

    return charts.svg(draw, 2.3, charts.NARROW)


def _ticks(last: int, first: int) -> list[int]:
    """At most a dozen of the rounds."""
    return list(range(first, last + 1, -(-(last - first + 1) // 12)))


def _commands(found: RoundsFindings) -> list[str]:
    folder = Path(found.folder)
    commands = [f"pairwright show {shlex.quote(str(folder))}"]
    if found.rounds:
        last = folder / f"round-{found.rounds[-1].number}"
        commands.append(f"pairwright show {shlex.quote(str(last))}")
        commands.append(f"pairwright chat {shlex.quote(str(last))}")
    return commands

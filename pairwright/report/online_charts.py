"""Charts of a run's online training: what every step measured, and reward against KL."""

from collections.abc import Sequence

from dpo.online import OnlineStep
from dpo.watch import Value
from pairwright.report import charts, curves
from pairwright.report.online_view import Online, watched
from pairwright.written import literal

_PANELS = 3
"""Watched rewards that the charts show; the table has them all."""


def online_charts(online: Online) -> dict[str, str]:
    """SVG by name; what no step measured is left out."""
    steps = online.steps
    reward = _series(steps, lambda step: step.reward)
    held_out = _series(steps, lambda step: step.held_out_reward)
    drawn: dict[str, str | None] = {
        "online_reward": _lines(
            "reward",
            [
                curves.Line("training reward", reward, charts.POLICY),
                curves.Line("held-out prompts", held_out, charts.WORSE, sparse=True),
            ],
        )
    }
    for number, name in enumerate(online.watched[:_PANELS]):
        line = curves.Line(name, _series(steps, watched(name)), charts.WORSE)
        drawn[f"watched_{number}"] = _lines(f"watched: {_short(name)}", [line])
    drawn |= {
        "online_kl": _curve(steps, "KL to the SFT model, nats a token", lambda step: step.kl, 0.0),
        "entropy": _curve(steps, "entropy, nats a token", lambda step: step.entropy),
        "online_length": _curve(steps, "length, tokens", lambda step: step.length),
        "unfinished": _curve(steps, "share cut off at the limit", _if_any(steps, "unfinished")),
        "equal_groups": _curve(
            steps, "share of groups with equal rewards", lambda step: step.equal_groups
        ),
        "value_loss": _curve(steps, "value loss", lambda step: step.value_loss),
        "explained": _curve(
            steps, "explained variance of returns", lambda step: step.explained_variance, 0.0
        ),
        "clip": _curve(steps, "share of tokens clipped", lambda step: step.clip_fraction),
        "frontier": _frontier(online),
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _frontier(online: Online) -> str | None:
    """Reward against KL, with the watched rewards below on scales of their own."""
    steps = online.steps
    own = [
        curves.Line("training reward", _against_kl(steps, lambda s: s.reward), charts.POLICY),
        curves.Line(
            "held-out prompts",
            _against_kl(steps, lambda s: s.held_out_reward),
            charts.WORSE,
            sparse=True,
        ),
    ]
    title = "reward" if own[1].points.x else "training reward"
    panels = [(title, [line for line in own if len(line.points.x) > 1])]
    for name in online.watched[:_PANELS]:
        points = _against_kl(steps, watched(name))
        panels.append((f"watched: {_short(name)}", [curves.Line(name, points, charts.WORSE)]))
    panels = [(label, lines) for label, lines in panels if lines and len(lines[0].points.x) > 1]
    return curves.frontier(panels) if panels else None


def _series(steps: Sequence[OnlineStep], value: Value) -> charts.Series:
    known = [(step.step, found) for step in steps if (found := value(step)) is not None]
    return charts.Series([x for x, _ in known], [y for _, y in known])


def _against_kl(steps: Sequence[OnlineStep], value: Value) -> charts.Series:
    known = [(step.kl, found) for step in steps if (found := value(step)) is not None]
    return charts.Series([x for x, _ in known], [y for _, y in known])


def _curve(
    steps: Sequence[OnlineStep], title: str, value: Value, reference: float | None = None
) -> str | None:
    return _lines(title, [curves.Line("", _series(steps, value), charts.POLICY)], reference)


def _lines(title: str, lines: Sequence[curves.Line], reference: float | None = None) -> str | None:
    """The chart, or None where no step has a value."""
    known = [line for line in lines if line.points.x]
    return curves.curves(known, title, reference, "step") if known else None


def _if_any(steps: Sequence[OnlineStep], name: str) -> Value:
    """The value, or none anywhere where it is 0 everywhere."""
    some = any(getattr(step, name) for step in steps)
    return lambda step: getattr(step, name) if some else None


def _short(name: str) -> str:
    shown = literal(name)
    return shown if len(shown) <= 30 else shown[:29] + "…"

"""Which charts a report has, and what each is drawn from."""

from collections.abc import Sequence
from typing import Any

from curation.proportions import Proportion
from dpo.summary import EvaluationRecord, EvaluationSummary, Sample
from pairwright.report import charts, curves
from pairwright.report.findings import Findings
from pairwright.report.finetuned_view import finetuned_charts
from pairwright.report.online_charts import online_charts
from pairwright.report.people import People
from pairwright.written import literal


def draw_charts(found: Findings) -> dict[str, Any]:
    """Safe SVG by name; a chart that has nothing to show is left out."""
    from markupsafe import Markup

    drawn = {
        **_evaluation_charts(found),
        **_training_charts(found),
        **({} if found.online is None else online_charts(found.online)),
        **finetuned_charts(found.sft, found.reward_model),
        **_people_charts(found.people),
    }
    return {name: Markup(svg) for name, svg in drawn.items()}


def _evaluation_charts(found: Findings) -> dict[str, str]:
    summary = found.summary
    if summary is None or summary.reward_gain.mean is None or not found.records:
        return {}
    gains = [record.gain for record in found.records if record.gain is not None]
    drawn = {
        "kinds": charts.dot_plot(_dots(summary), "gain in reward"),
        "gains": charts.sorted_bars(gains, "gain in reward"),
        "length": _length_chart(found.records, summary),
    }
    rate = summary.win_rate
    if rate.win is not None and rate.tie is not None and rate.loss is not None:
        drawn["win"] = charts.shares_bar(
            [
                ("policy better", rate.win, charts.POLICY),
                ("tie", rate.tie, charts.BASE),
                ("SFT model better", rate.loss, charts.WORSE),
            ]
        )
    kl = [
        sample.kl for record in found.records for sample in record.policy if sample.kl is not None
    ]
    if summary.kl_per_token.mean is not None and kl:
        drawn["kl"] = charts.histogram(
            kl, summary.kl_per_token.mean, "KL of an answer, nats a token"
        )
    return drawn


def _dots(summary: EvaluationSummary) -> list[charts.Dot]:
    """All prompts first, then kinds from the largest gain to the smallest."""
    gains = [("all prompts", summary.reward_gain)]
    by_gain = sorted(summary.by_kind, key=lambda item: (-(item.gain.mean or 0.0), item.kind))
    gains += [(f"{_short(literal(item.kind))} ({item.gain.n})", item.gain) for item in by_gain]
    return [
        charts.Dot(label, gain.mean, gain.low, gain.high)
        for label, gain in gains
        if gain.mean is not None
    ]


def _short(kind: str) -> str:
    """The kind without its family: `no_comma` of `punctuation:no_comma`."""
    name = kind.rpartition(":")[2]
    return name if len(name) <= 30 else name[:29] + "…"


def _length_chart(records: Sequence[EvaluationRecord], summary: EvaluationSummary) -> str:
    scored = [record for record in records if record.gain is not None]
    points = charts.Series(
        [_mean_tokens(record.policy) - _mean_tokens(record.base) for record in scored],
        [record.gain or 0.0 for record in scored],
    )
    control = summary.length_control
    labels = ("change in tokens", "gain in reward")
    return charts.scatter_with_line(points, control.slope, control.intercept.mean, labels)


def _mean_tokens(samples: Sequence[Sample]) -> float:
    counts = [sample.candidate.count for sample in samples]
    total = sum(n * sample.tokens for n, sample in zip(counts, samples, strict=True))
    return total / sum(counts)


def _people_charts(people: People | None) -> dict[str, str]:
    if people is None:
        return {}
    alike: list[charts.ShareDot] = []
    first: list[charts.ShareDot] = []
    for row in people.annotators:
        label = _short(literal(row.annotator)) + (", excluded" if row.excluded else "")
        for dots, share, expected, odd in (
            (alike, row.agreement, row.agreement_by_chance, row.suspect),
            (first, row.first_shown, 0.5, _strays(row.first_shown)),
        ):
            if share.share is not None and share.low is not None and share.high is not None:
                dot = charts.ShareDot(label, share.share, share.low, share.high, expected, odd)
                dots.append(dot)
    drawn = {}
    if alike:
        drawn["alike"] = charts.share_plot(alike, "answers as most others do")
    if first:
        drawn["first"] = charts.share_plot(first, "prefers the answer shown first")
    if people.unanimity.pairs:
        minds = people.unanimity
        drawn["unanimity"] = charts.count_bars(
            [
                ("all agree", minds.all_agree),
                ("most agree", minds.most_agree),
                ("no majority", minds.no_majority),
            ],
            "pairs that two or more answered",
        )
    if people.confidences:
        drawn["confidence"] = charts.confidence_bars(
            people.confidences, "probability that chosen is better"
        )
    return drawn


def _strays(share: Proportion) -> bool:
    return share.is_above(0.5) or share.is_below(0.5)


def _training_charts(found: Findings) -> dict[str, str]:
    steps = found.steps
    drawn = {
        "loss": _curve("loss", [(step.step, step.loss) for step in steps]),
        "margin": _curve(
            "reward margin", [(step.step, step.rewards_margin) for step in steps], reference=0.0
        ),
        "accuracy": _curve(
            "share of pairs ordered right",
            [(step.step, step.rewards_accuracy) for step in steps],
            reference=0.5,
        ),
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _curve(
    title: str, points: Sequence[tuple[int, float | None]], reference: float | None = None
) -> str | None:
    """The chart, or None where no step has a value."""
    known = [(step, value) for step, value in points if value is not None]
    if not known:
        return None
    series = charts.Series([step for step, _ in known], [value for _, value in known])
    return curves.curve(series, title, reference)

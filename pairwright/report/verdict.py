"""Did the policy get better: one headline, one sentence with the figures, and what to doubt."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from dpo.summary import EvaluationSummary
from dpo.watch import LARGE_KL
from pairwright.written import number, share, signed
from schemas.records import Record

FEW_PROMPTS = 20

Outcome = Literal["better", "only_length", "gamed", "unclear", "worse", "not_measured"]


class Verdict(Record):
    outcome: Outcome
    headline: str
    detail: str


def verdict(summary: EvaluationSummary | None, *, gamed: bool = False) -> Verdict:
    """What the evaluation shows, in words that say no more than its interval does.

    `gamed`: while the policy trained, a reward that only watched fell as the reward rose.
    """
    if summary is None:
        return Verdict(
            outcome="not_measured",
            headline="Not measured yet.",
            detail="No policy has been compared with the SFT model in this run.",
        )
    outcome = _outcome(summary)
    if gamed and outcome in ("better", "only_length"):
        outcome = "gamed"
    return Verdict(outcome=outcome, headline=_HEADLINES[outcome], detail=_detail(summary))


def doubts(summary: EvaluationSummary) -> Iterator[str]:
    """What a reader should know before trusting the figures, gravest first."""
    if summary.leaks is not None and summary.leaks.count:
        yield (
            f"{summary.leaks.count} of {summary.prompts} held-out prompts were also trained on; "
            "their gains say nothing about new prompts."
        )
    if summary.length_control.only_length:
        yield (
            f"The gain may be only length: answers went from {number(summary.length.before, 0)} to "
            f"{number(summary.length.after, 0)} tokens, and at unchanged length "
            f"{_at_same_length(summary)}."
        )
    kl = summary.kl_per_token
    if kl.mean is not None and kl.mean > LARGE_KL:
        yield (
            f"The policy has moved far from the SFT model: KL {kl.mean:.2f} nats a token. Read the "
            "samples for repetition and nonsense."
        )
    cut = summary.truncated.change
    if cut.above_zero:
        yield (
            f"More answers are cut off at the token limit: {share(summary.truncated.before)} "
            f"before, {share(summary.truncated.after)} after."
        )
    if summary.unscored_prompts:
        yield (
            f"{summary.unscored_prompts} of {summary.prompts} prompts have no score on one side "
            "and enter no reward figure."
        )
    if 0 < summary.reward_gain.n < FEW_PROMPTS:
        yield f"{summary.reward_gain.n} prompts are few; the true interval is wider than this one."


def _outcome(summary: EvaluationSummary) -> Outcome:
    gain = summary.reward_gain
    if gain.mean is None:
        return "not_measured"
    if gain.above_zero:
        return "only_length" if summary.length_control.only_length else "better"
    return "worse" if gain.below_zero else "unclear"


_HEADLINES: Mapping[Any, str] = {
    "better": "The policy got better.",
    "only_length": "The reward rose, but the gain may be only length.",
    "gamed": "The reward rose, but a reward that only watched fell.",
    "unclear": "No clear gain.",
    "worse": "The policy got worse.",
    "not_measured": "Not measured: no answer was scored.",
}


def _detail(summary: EvaluationSummary) -> str:
    gain = summary.reward_gain
    if gain.mean is None:
        return f"The reward scored no prompt on both sides ({gain.note})."
    means = f"from {number(summary.reward_before)} to {number(summary.reward_after)}"
    text = f"Mean reward on {gain.n} held-out prompts went {means}, {signed(gain.mean)}"
    if gain.low is None or gain.high is None:
        return f"{text}; there is no interval ({gain.note})."
    level = f"{summary.confidence_level:.0%} interval"
    text += f" ({level} {signed(gain.low)} to {signed(gain.high)})"
    if gain.above_zero or gain.below_zero:
        return text + "."
    return f"{text}: the interval includes zero, so chance alone may explain the difference."


def _at_same_length(summary: EvaluationSummary) -> str:
    control = summary.length_control
    found = control.same_length if control.intercept.mean is None else control.intercept
    if found.low is None or found.high is None:
        return f"no gain can be told apart ({found.note})"
    return f"the gain is {signed(found.mean)} ({signed(found.low)} to {signed(found.high)})"

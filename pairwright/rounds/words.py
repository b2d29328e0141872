"""What the figures of rounds say in words: the verdict, and what to beware of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dpo.statistics import Estimate
from dpo.summary import EvaluationSummary
from dpo.watch import LARGE_KL
from pairwright.report.findings import Findings
from pairwright.report.people import people_doubts
from pairwright.report.verdict import Verdict
from pairwright.written import number as written
from pairwright.written import signed

if TYPE_CHECKING:
    from pairwright.rounds.figures import RoundFigures, RoundsFindings


def warnings_on(
    result: "RoundsFindings", found: Sequence[Findings], beyond: Sequence[int]
) -> Iterator[str]:
    """What a reader should know besides; `beyond` are rounds on disk that are not asked for."""
    for row in result.rounds:
        if row.state != "complete":
            yield f"Round {row.number} is {row.state}: {row.why}."
    if beyond:
        why = "the rounds ended before" if result.stopped else f"rounds.count is {result.most}"
        are = "is on disk and no part" if len(beyond) == 1 else "are on disk and no part"
        yield f"{_named(beyond)} {are} of this report, as {why}."
    far = [row for row in result.rounds[1:] if row.kl_to_first and row.kl_to_first.mean]
    for row in far[-1:]:
        kl = row.kl_to_first.mean if row.kl_to_first else None
        if kl is not None and kl > LARGE_KL:
            yield (
                f"After round {row.number} the policy is far from the first model: KL {kl:.2f} "
                "nats a token. Read the samples for repetition and nonsense."
            )
    remarks: dict[str, list[int]] = {}
    for row, item in zip(result.rounds, found, strict=True):
        # They name annotators, and who is forgotten is taken out of a round's own report alone.
        about_people = set() if item.people is None else set(people_doubts(item.people))
        for text in item.warnings:
            if text not in about_people:
                remarks.setdefault(text, []).append(row.number)
    yield from (f"{_named(numbers)}: {text}" for text, numbers in remarks.items())


def verdict_on(rows: Sequence["RoundFigures"], start: EvaluationSummary | None) -> Verdict:
    """What the gains say, in words that say no more than their intervals do.

    `start` is the evaluation of the first round.
    """
    measured = [row for row in rows if row.gain is not None and row.gain.mean is not None]
    if not measured or start is None:
        return Verdict(
            outcome="not_measured",
            headline="Not measured yet.",
            detail="No round has been compared with the one before.",
        )
    total = measured[-1].since_first or Estimate(mean=None, n=0)
    outcomes: Mapping[bool, str] = {total.above_zero: "better", total.below_zero: "worse"}
    return Verdict.model_validate(
        {
            "outcome": outcomes.get(True, "unclear"),
            "headline": _headline(measured),
            "detail": " ".join(_detail(measured, start)),
        }
    )


def _headline(rows: Sequence["RoundFigures"]) -> str:
    up = [row.number for row in rows if row.gained]
    down = [row.number for row in rows if row.gain is not None and row.gain.below_zero]
    rest = [row.number for row in rows if row.number not in (*up, *down)]
    if len(rows) > 1 and len(up) == len(rows):
        return f"All {len(rows)} rounds gained."
    if len(rows) > 1 and len(rest) == len(rows):
        return f"None of {len(rows)} rounds clearly gained."
    parts = [
        f"{_named(numbers)} {said}"
        for numbers, said in (
            (up, "gained"),
            (rest, "did not clearly gain"),
            (down, "got worse"),
        )
        if numbers
    ]
    text = ", ".join(parts)
    return f"{text[0]}{text[1:].replace(', Round', ', round')}."


def _detail(rows: Sequence["RoundFigures"], first: EvaluationSummary) -> Iterator[str]:
    last = rows[-1]
    rewards = [first.reward_before, *(row.reward.mean for row in rows if row.reward)]
    total = last.since_first or Estimate(mean=None, n=0)
    path = " → ".join(written(value) for value in rewards)
    level = f"{first.confidence_level:.0%} interval"
    yield (
        f"Mean reward on {total.n} held-out prompts went {path}: {signed(total.mean)} since the "
        f"first model{_interval(total, level)}."
    )
    gain = last.gain or total
    what = f"The last gain, {signed(gain.mean)}{_interval(gain)},"
    if gain.above_zero:
        yield f"{what} is above zero, so another round may gain again."
    elif gain.below_zero:
        yield f"{what} is below zero: the last round did harm."
    else:
        yield f"{what} may be chance alone, so another round of the same kind promises little."
    if up := [row for row in rows if row.gained]:
        yield f"The last policy with a clear gain is {up[-1].policy}."


def _interval(estimate: Estimate, what: str = "") -> str:
    if estimate.low is None or estimate.high is None:
        return " (no interval)"
    return f" ({what} {signed(estimate.low)} to {signed(estimate.high)})".replace("( ", "(")


def _named(numbers: Sequence[int]) -> str:
    """`Round 2`, `Rounds 1 and 3`."""
    *most, last = map(str, numbers)
    return f"Rounds {', '.join(most)} and {last}" if most else f"Round {last}"

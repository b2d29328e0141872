"""The verdict says no more than the interval does, and the doubts are named."""

from collections.abc import Callable
from random import Random

import pytest

from dpo.summary import EvaluationRecord, EvaluationSummary, Sample, summarise
from pairwright.report.verdict import doubts, verdict
from schemas.configs import EvaluateConfig
from schemas.records import Candidate, Completion, Message, Origin, Prompt


def make_sample(of: Prompt, reward: float | None, tokens: int, kl: float, cut: bool) -> Sample:
    completion = Completion.from_text(
        f"{reward} {tokens} {kl}",
        token_ids=tuple(range(tokens)),
        finish_reason="length" if cut else "stop",
    )
    candidate = Candidate(
        prompt_id=of.id, completion=completion, origin=Origin(generator="transformers")
    )
    return Sample(candidate=candidate, reward=reward, components={}, tokens=tokens, kl=kl)


def summary_of(
    gain: Callable[[int], float | None],
    *,
    prompts: int = 30,
    longer: Callable[[int], int] = lambda number: 0,
    kl: float = 0.05,
    cut: bool = False,
    trained_on: int = 0,
) -> EvaluationSummary:
    """Of one answer a side: reward 0 and 40 tokens before, gain and `longer` tokens more after."""
    rng = Random(0)
    asked = [
        Prompt(messages=(Message(role="user", content=f"question {number}"),))
        for number in range(prompts)
    ]
    records = []
    for number, prompt in enumerate(asked):
        gained = gain(number)
        after = None if gained is None else gained + rng.gauss(0, 0.05)
        base = make_sample(prompt, 0.0, 40, kl, cut=False)
        policy = make_sample(prompt, after, 40 + longer(number), kl, cut=cut and number % 2 == 0)
        records.append(EvaluationRecord(prompt=prompt, base=(base,), policy=(policy,)))
    config = EvaluateConfig(resamples=300)
    return summarise(records, config, seed=0, train_prompts=asked[:trained_on])


def test_nothing_measured_is_no_verdict() -> None:
    assert verdict(None).outcome == "not_measured"


def test_interval_above_zero_is_better_and_nothing_is_doubted() -> None:
    summary = summary_of(lambda number: 0.3)
    found = verdict(summary)
    assert found.outcome == "better"
    assert "Mean reward on 30 held-out prompts went from 0.00 to 0.3" in found.detail
    assert "95% interval +0.2" in found.detail
    assert list(doubts(summary)) == []


def test_interval_below_zero_is_worse() -> None:
    found = verdict(summary_of(lambda number: -0.3))
    assert found.outcome == "worse"
    assert "−0.3" in found.detail


def test_interval_with_zero_in_it_is_no_clear_gain() -> None:
    found = verdict(summary_of(lambda number: (-1) ** number * 0.3))
    assert found.outcome == "unclear"
    assert "includes zero" in found.detail


def test_gain_that_is_only_length_is_not_called_better() -> None:
    summary = summary_of(lambda number: 0.02 * number, longer=lambda number: number)
    found = verdict(summary)
    assert found.outcome == "only_length"
    (doubt,) = doubts(summary)
    assert "answers went from 40 to 54 tokens" in doubt
    assert "at unchanged length the gain is" in doubt


def test_gain_that_cannot_be_told_from_length_is_doubted() -> None:
    summary = summary_of(lambda number: 0.3, longer=lambda number: 20)
    assert verdict(summary).outcome == "only_length"
    assert "no gain can be told apart" in next(doubts(summary))


def test_one_prompt_gives_no_interval_and_the_verdict_says_so() -> None:
    found = verdict(summary_of(lambda number: 0.3, prompts=1))
    assert found.outcome == "unclear"
    assert "there is no interval" in found.detail


def test_answers_without_any_score_are_not_measured() -> None:
    summary = summary_of(lambda number: None)
    assert verdict(summary).outcome == "not_measured"
    assert "30 of 30 prompts have no score" in next(doubts(summary))


@pytest.mark.parametrize(
    ("summary", "doubt"),
    [
        (summary_of(lambda number: 0.3, kl=0.9), "KL 0.90 nats a token"),
        (summary_of(lambda number: 0.3, cut=True), "0% before, 50% after"),
        (summary_of(lambda number: 0.3, trained_on=12), "12 of 30 held-out prompts"),
        (summary_of(lambda number: 0.3, prompts=12), "12 prompts are few"),
        (summary_of(lambda number: 0.3 if number else None), "1 of 30 prompts have no score"),
    ],
)
def test_what_weakens_a_gain_is_named(summary: EvaluationSummary, doubt: str) -> None:
    (found,) = doubts(summary)
    assert doubt in found


def test_gain_of_a_gamed_reward_is_not_called_better() -> None:
    gained = summary_of(lambda number: 0.3)
    assert verdict(gained, gamed=True).outcome == "gamed"
    assert verdict(gained, gamed=True).detail == verdict(gained).detail
    lost = summary_of(lambda number: -0.3)
    assert verdict(lost, gamed=True).outcome == "worse"
    assert verdict(None, gamed=True).outcome == "not_measured"

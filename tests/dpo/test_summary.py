"""The figures of an evaluation, each worked out by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dpo.summary import EvaluationRecord, EvaluationSummary, Sample, summarise
from schemas.arrow import from_table, to_table
from schemas.configs import EvaluateConfig
from schemas.records import Candidate, Completion, Instruction, Message, Origin, Prompt

CONFIG = EvaluateConfig(resamples=1000, n=2)


def prompt(text: str, *instructions: str, tags: tuple[str, ...] = ()) -> Prompt:
    return Prompt(
        messages=(Message(role="user", content=text),),
        instructions=tuple(Instruction(name=name) for name in instructions),
        tags=tags,
    )


def sample(
    of: Prompt,
    text: str,
    reward: float | None,
    *,
    tokens: int = 10,
    count: int = 1,
    cut: bool = False,
    kl: float | None = None,
    **components: float | None,
) -> Sample:
    completion = Completion.from_text(
        text, token_ids=tuple(range(tokens)), finish_reason="length" if cut else "stop"
    )
    candidate = Candidate(
        prompt_id=of.id, completion=completion, origin=Origin(generator="test"), count=count
    )
    return Sample(candidate=candidate, reward=reward, components=components, tokens=tokens, kl=kl)


def record(
    of: Prompt, base: list[float | None], policy: list[float | None], **fields: Any
) -> EvaluationRecord:
    return EvaluationRecord(
        prompt=of,
        base=tuple(sample(of, f"b{i}", reward) for i, reward in enumerate(base)),
        policy=tuple(sample(of, f"p{i}", reward, **fields) for i, reward in enumerate(policy)),
    )


def summary_of(*records: EvaluationRecord, **options: Any) -> EvaluationSummary:
    return summarise(records, CONFIG, seed=0, **options)


def test_gain_is_paired_by_prompt_and_weighs_repeated_answers() -> None:
    first, second = prompt("one"), prompt("two")
    repeated = EvaluationRecord(
        prompt=first,
        base=(sample(first, "a", 0.0, count=3), sample(first, "b", 1.0)),  # mean 0.25
        policy=(sample(first, "c", 1.0, count=4),),
    )
    plain = record(second, [1.0, 0.0], [0.0, 0.5])  # 0.5 -> 0.25
    found = summary_of(repeated, plain)
    assert found.reward_before == pytest.approx(0.375)
    assert found.reward_after == pytest.approx(0.625)
    assert found.reward_gain.mean == pytest.approx((0.75 - 0.25) / 2)
    assert found.reward_gain.n == 2


def test_gain_interval_is_scipys_over_the_prompts_differences() -> None:
    rewards = np.random.default_rng(3).normal(size=(2, 30)).tolist()
    records = [record(prompt(f"q{i}"), [rewards[0][i]], [rewards[1][i]]) for i in range(30)]
    expected = stats.bootstrap(
        (np.subtract(rewards[1], rewards[0]),),
        np.mean,
        n_resamples=1000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    gain = summary_of(*records).reward_gain
    assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high))


def test_win_rate_is_the_expected_win_of_a_random_sample_with_ties_as_half() -> None:
    one = prompt("one")
    mixed = EvaluationRecord(
        prompt=one,
        base=(sample(one, "a", 0.5, count=2), sample(one, "b", 1.0)),
        policy=(sample(one, "c", 1.0), sample(one, "d", 0.0)),
    )
    # c beats a twice and ties with b; d loses to all three: 2 wins, 1 tie, 3 losses of 6.
    lost = record(prompt("two"), [1.0], [0.0])
    found = summary_of(mixed, lost).win_rate
    assert found.mean == pytest.approx((2.5 / 6 + 0) / 2)
    assert found.win == pytest.approx(2 / 12)
    assert found.tie == pytest.approx(1 / 12)
    assert found.loss == pytest.approx((3 / 6 + 1) / 2)


def test_equal_policies_win_half_and_gain_nothing() -> None:
    records = [record(prompt(f"q{i}"), [0.1 * i, 0.3], [0.1 * i, 0.3]) for i in range(12)]
    found = summary_of(*records)
    assert found.reward_gain.mean == 0
    assert (found.reward_gain.low, found.reward_gain.high) == (0, 0)
    assert found.win_rate.mean == 0.5
    assert not found.length_control.only_length


def test_abstentions_are_left_out_and_counted() -> None:
    half = record(prompt("one"), [None, 1.0], [0.0, 0.0])
    none = record(prompt("two"), [None], [1.0])
    found = summary_of(half, none)
    assert found.prompts == 2
    assert found.unscored_prompts == 1
    assert found.abstained == {"base": 2, "policy": 0}
    assert found.reward_gain.mean == -1.0
    assert found.win_rate.n == 1


def test_no_scored_prompt_gives_no_figure_and_a_reason() -> None:
    found = summary_of(record(prompt("one"), [None], [None]))
    assert found.reward_before is None
    assert found.reward_gain.mean is None
    assert found.reward_gain.note
    assert found.win_rate.mean is None


def test_gain_by_kind_counts_a_prompt_under_each_of_its_instructions_or_its_tags() -> None:
    found = summary_of(
        record(prompt("one", "no_commas", "all_lower", tags=("mail",)), [0.0], [1.0]),
        record(prompt("two", "no_commas"), [0.0], [0.5]),
        record(prompt("three", tags=("maths",)), [0.0], [0.25]),
        record(prompt("four"), [0.0], [9.0]),
    )
    gains = {item.kind: (item.gain.n, item.gain.mean) for item in found.by_kind}
    assert gains == {"all_lower": (1, 1.0), "maths": (1, 0.25), "no_commas": (2, 0.75)}


def test_the_two_directions_of_an_instruction_are_two_kinds() -> None:
    def asked(text: str, relation: str) -> Prompt:
        kwargs = {"relation": relation, "num_words": 9}
        instruction = Instruction(name="number_words", kwargs=kwargs)
        return Prompt(messages=(Message(role="user", content=text),), instructions=(instruction,))

    found = summary_of(
        record(asked("one", "at least"), [1.0], [0.0]),
        record(asked("two", "less than"), [0.0], [1.0]),
    )
    gains = {item.kind: item.gain.mean for item in found.by_kind}
    assert gains == {"number_words at least": -1.0, "number_words less than": 1.0}


def test_each_kind_tells_its_length_and_its_kl() -> None:
    found = summary_of(
        record(prompt("one", tags=("mail",)), [0.0], [1.0], tokens=20, kl=0.5),
        record(prompt("two", tags=("mail",)), [0.0], [1.0], tokens=40, kl=0.2),
        record(prompt("three", tags=("maths",)), [0.0], [1.0], tokens=30, kl=0.0),
    )
    mail, maths = found.by_kind
    assert (mail.tokens_before, mail.tokens_after) == (10.0, 30.0)
    assert mail.kl_per_token is not None
    assert maths.kl_per_token is not None
    assert mail.kl_per_token.mean == pytest.approx((20 * 0.5 + 40 * 0.2) / 60)
    assert maths.kl_per_token.mean == 0.0


def test_components_are_compared_one_by_one() -> None:
    one = prompt("one")
    both = EvaluationRecord(
        prompt=one,
        base=(sample(one, "a", 0.5, brief=1.0, exact=0.0),),
        policy=(sample(one, "b", 1.0, brief=0.25, exact=None),),
    )
    found = summary_of(both).components
    assert (found["brief"].before, found["brief"].after) == (1.0, 0.25)
    assert found["brief"].change.mean == -0.75
    assert found["exact"].change.mean is None


def with_lengths(i: int, before: int, after: int, gain: float) -> EvaluationRecord:
    of = prompt(f"q{i}")
    return EvaluationRecord(
        prompt=of,
        base=(sample(of, "base", 0.0, tokens=before),),
        policy=(sample(of, "policy", gain, tokens=after),),
    )


def test_gain_that_is_only_length_is_found_out() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.05, size=40)
    records = [with_lengths(i, 100, 100 - i, 0.02 * i + float(noise[i])) for i in range(40)]
    found = summary_of(*records)
    control = found.length_control
    assert found.reward_gain.above_zero
    assert found.length.change.mean == pytest.approx(-19.5)
    assert control.only_length
    assert control.slope == pytest.approx(-0.02, abs=0.002)
    assert control.correlation == pytest.approx(-1.0, abs=0.05)
    assert control.intercept.mean == pytest.approx(0.0, abs=0.05)


def test_gain_beyond_length_is_not_called_length() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.05, size=40)
    records = [with_lengths(i, 100, 100 - i % 8, 0.5 + float(noise[i])) for i in range(40)]
    control = summary_of(*records).length_control
    assert not control.only_length
    assert control.intercept.mean == pytest.approx(0.5, abs=0.05)
    assert control.same_length.n == 40


def test_same_length_takes_prompts_within_a_tenth() -> None:
    found = summary_of(
        with_lengths(0, 100, 110, 1.0), with_lengths(1, 100, 111, 2.0), with_lengths(2, 50, 45, 4.0)
    ).length_control
    assert found.same_length.n == 2
    assert found.same_length.mean == 2.5


def test_gain_with_length_shifted_alike_everywhere_cannot_be_told_from_length() -> None:
    records = [with_lengths(i, 100, 50, 0.5 + 0.01 * i) for i in range(20)]
    control = summary_of(*records).length_control
    assert control.intercept.mean is None
    assert control.slope is None
    assert control.only_length


def test_kl_is_averaged_over_tokens_not_over_answers() -> None:
    one = prompt("one")
    both = EvaluationRecord(
        prompt=one,
        base=(sample(one, "a", 0.0),),
        policy=(
            sample(one, "b", 0.0, tokens=10, kl=0.1, count=2),
            sample(one, "c", 0.0, tokens=80, kl=0.4),
        ),
    )
    found = summary_of(both).kl_per_token
    assert found.mean == pytest.approx((2 * 1.0 + 32.0) / 100)
    assert found.per_answer == pytest.approx((2 * 1.0 + 32.0) / 3)
    assert "nats" in found.estimator


def test_missing_kl_says_why() -> None:
    found = summary_of(record(prompt("one"), [0.0], [0.0]), no_kl="other vocabularies")
    assert found.kl_per_token.mean is None
    assert found.kl_per_token.note == "other vocabularies"


def test_truncated_share_weighs_repeated_answers() -> None:
    one = prompt("one")
    both = EvaluationRecord(
        prompt=one,
        base=(sample(one, "a", 0.0, cut=True, count=3), sample(one, "b", 0.0)),
        policy=(sample(one, "c", 0.0),),
    )
    found = summary_of(both).truncated
    assert (found.before, found.after) == (0.75, 0.0)


def test_a_held_out_prompt_that_training_saw_is_listed() -> None:
    """Found by normalised text: training ('a', 'b', 'c'), held out ('C ', 'd', 'e')."""
    held_out = [prompt("C "), prompt("d"), prompt("e")]
    found = summary_of(
        *(record(item, [0.0], [0.0]) for item in held_out),
        train_prompts=[prompt("a"), prompt("b"), prompt("c")],
    ).leaks
    assert found is not None
    assert found.count == 1
    assert found.share == pytest.approx(1 / 3)
    assert found.prompt_ids == (held_out[0].id,)


def test_records_survive_parquet_and_the_summary_survives_json() -> None:
    one = prompt("one", "no_commas", tags=("mail",))
    both = EvaluationRecord(
        prompt=one,
        base=(sample(one, "a", None, brief=None),),
        policy=(sample(one, "b", 1.0, brief=0.5, kl=0.1),),
    )
    assert from_table(to_table([both], EvaluationRecord), EvaluationRecord) == [both]
    summary = summary_of(both)
    text = json.dumps(summary.model_dump(mode="json"), allow_nan=False)
    assert EvaluationSummary.model_validate_json(text) == summary


def test_summary_holds_no_nan() -> None:
    records = [record(prompt(f"q{i}"), [0.0], [float(i == 0)]) for i in range(3)]

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [number for item in value.values() for number in numbers(item)]
        if isinstance(value, list | tuple):
            return [number for item in value for number in numbers(item)]
        return [value] if isinstance(value, float) else []

    assert all(math.isfinite(number) for number in numbers(summary_of(*records).model_dump()))

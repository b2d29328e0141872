"""A prompt is on one side of the split, in every stage and for good."""

from collections.abc import Iterable

import pytest

from curation.validation.gate import Gate, RawRow, leaks, split_of
from schemas.configs import ValidateConfig
from schemas.records import Message, Prompt


def prompt(text: str) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),))


def rows(pairs: Iterable[tuple[str, str]]) -> list[RawRow]:
    return [
        RawRow(
            row_id=str(at),
            prompt=[{"role": "user", "content": text}],
            chosen=[{"role": "assistant", "content": sides[0]}],
            rejected=[{"role": "assistant", "content": sides[1]}],
        )
        for at, (text, sides) in enumerate(pairs)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_prompt_has_pairs_on_both_sides(seed: int) -> None:
    pairs = [("p1", "ab"), ("p1", "ac"), ("p1", "bc"), ("p2", "ab"), ("p3", "ab")]
    gate = Gate(ValidateConfig(token_checks=False, test_share=0.4), seed=seed)
    result = gate.run(rows(pairs))
    sides = {
        split: {pair.prompt.id for pair in result.pairs if pair.split == split}
        for split in ("train", "test")
    }
    assert result.counts["out"] == 5
    assert not sides["train"] & sides["test"]


@pytest.mark.parametrize("seed", range(20))
def test_near_equal_prompts_are_on_one_side(seed: int) -> None:
    gate = Gate(ValidateConfig(token_checks=False, test_share=0.5), seed=seed)
    near = [("Name a  colour", "ab"), ("name a colour", "ab"), ("Ｎame a colour ", "ab")]
    result = gate.run(rows(near))
    assert len({pair.split for pair in result.pairs}) == 1


def test_the_split_of_a_prompt_depends_on_prompt_and_seed_alone() -> None:
    prompts = [prompt(f"prompt {number}") for number in range(20)]
    stages = [[split_of(p.group, 3, 0.3) for p in prompts] for _ in ("sft", "reward", "dpo")]
    assert stages[0] == stages[1] == stages[2]
    gate = Gate(ValidateConfig(token_checks=False, test_share=0.3), seed=3)
    few = gate.run(rows((f"prompt {number}", "ab") for number in range(20)))
    more = gate.run(rows((f"prompt {number}", "ab") for number in range(200)))
    assert [pair.split for pair in few.pairs] == stages[0]
    assert [pair.split for pair in more.pairs[:20]] == stages[0]


def test_the_share_is_met_and_growing_it_moves_nothing_back() -> None:
    groups = [prompt(f"prompt {number}").group for number in range(2000)]
    small = {group for group in groups if split_of(group, 0, 0.1) == "test"}
    large = {group for group in groups if split_of(group, 0, 0.3) == "test"}
    assert small <= large
    # Four standard deviations of 2000 draws at 0.1: 54.
    assert abs(len(small) - 200) < 54
    assert not any(split_of(group, 0, 0.0) == "test" for group in groups)


def test_another_seed_is_another_split() -> None:
    groups = [prompt(f"prompt {number}").group for number in range(100)]
    first, second = ([split_of(group, seed, 0.5) for group in groups] for seed in (0, 1))
    assert first != second


def test_a_split_without_pairs_is_told() -> None:
    gate = Gate(ValidateConfig(token_checks=False, test_share=1e-9), seed=0)
    assert gate.run(rows([("p", "ab")])).warnings[0].startswith("NO_TEST_PAIRS")
    gate = Gate(ValidateConfig(token_checks=False, test_share=1 - 1e-9), seed=0)
    assert gate.run(rows([("p", "ab")])).warnings[0].startswith("NO_TRAIN_PAIRS")


def test_test_prompts_that_training_holds_are_listed() -> None:
    train, test = [prompt(text) for text in "abc"], [prompt(text) for text in "cde"]
    report = leaks(train, test)
    assert report.leaked == [prompt("c").id]
    assert report.total == 3
    assert report.share == pytest.approx(1 / 3)


def test_a_near_equal_prompt_leaks_too_and_a_repeated_one_counts_once() -> None:
    report = leaks([prompt("Hi  there")], [prompt("hi there"), prompt("hi there"), prompt("ho")])
    assert (report.leaked, report.total) == ([prompt("hi there").id], 2)
    assert leaks([], []).share == 0.0

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.chat import TemplateError
from curation.rewards.answers import ExactAnswer
from curation.rewards.rules import LengthReward
from curation.rewards.weighted import WeightedSum, build_reward, checked_scores
from schemas.configs import RewardConfig
from schemas.interfaces import RewardFunction
from schemas.records import Completion, Instruction, Message, Prompt

PROMPT = Prompt(messages=(Message(role="user", content="Say something."),))
ANSWER = Completion.from_text("Something.")


class Fixed:
    """Gives the same scores whatever it is asked."""

    def __init__(self, *scores: Any, name: str = "fixed") -> None:
        self.scores = list(scores)
        self.name = name

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Any]:
        return self.scores


def total(
    *parts: tuple[float, float | None], abstain: Any = "renormalise", scale: float = 1
) -> float | None:
    rewards = [
        (Fixed(score), weight * scale, f"r{index}") for index, (weight, score) in enumerate(parts)
    ]
    (value,) = WeightedSum(rewards, abstain)([PROMPT], [ANSWER])
    return value


def test_scores_become_floats_and_none_stays_none() -> None:
    reward = Fixed(1, 0.5, None, np.float32(2), np.int64(3))
    scores = checked_scores(reward, [PROMPT] * 5, [ANSWER] * 5)
    assert scores == [1.0, 0.5, None, 2.0, 3.0]
    assert {type(score) for score in scores} == {float, type(None)}


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), -float("inf"), True, "0.5", [1.0], 1j, np.float64("nan")]
)
def test_what_is_no_finite_number_is_no_score(bad: Any) -> None:
    with pytest.raises(ValueError, match=rf"reward 'fixed', row 1 \(prompt '{PROMPT.id}'\)"):
        checked_scores(Fixed(1.0, bad), [PROMPT] * 2, [ANSWER] * 2)


@pytest.mark.parametrize("bad", [float("nan"), -float("inf"), np.float32("inf"), 10**400])
def test_a_number_that_is_not_finite_is_named_so(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"NON_FINITE_REWARD: reward 'fixed', row 1 "):
        checked_scores(Fixed(None, bad), [PROMPT] * 2, [ANSWER] * 2)


def test_scores_may_come_as_an_array_or_a_tensor() -> None:
    import torch

    for scores in (np.array([1.0, 2.5]), torch.tensor([1.0, 2.5])):
        found = checked_scores(Fixed(*scores), [PROMPT] * 2, [ANSWER] * 2)
        assert found == [1.0, 2.5]
        assert {type(score) for score in found} == {float}
    with pytest.raises(ValueError, match=r"row 0 .*: the score is inf"):
        checked_scores(Fixed(torch.tensor(torch.inf)), [PROMPT], [ANSWER])


@pytest.mark.parametrize(
    "parts",
    [
        [(10.0, 1.7e308)],
        [(1.0, 1.7e308), (1.0, 1.7e308)],
        [(1.0, 1e308), (9.0, None)],
        [(10.0, 1.7e308), (10.0, -1.7e308)],
    ],
)
def test_a_sum_beyond_the_floats_is_refused(parts: list[tuple[float, float | None]]) -> None:
    with pytest.raises(ValueError, match=r"NON_FINITE_REWARD: reward 'r0.*': the weighted sum"):
        total(*parts)


def test_a_missing_or_extra_score_is_refused() -> None:
    with pytest.raises(ValueError, match="reward 'fixed': 2 completions but 1 scores"):
        checked_scores(Fixed(1.0), [PROMPT] * 2, [ANSWER] * 2)
    with pytest.raises(ValueError, match="2 prompts but 1 completions"):
        checked_scores(Fixed(1.0), [PROMPT] * 2, [ANSWER])
    with pytest.raises(ValueError, match="reward 'sumless' gave NoneType"):
        checked_scores(lambda prompts, completions: None, [PROMPT], [ANSWER], name="sumless")


@pytest.mark.parametrize("given", [{0: 0.5, 1: 0.9}, {0.5, 0.9}, "12"])
def test_scores_that_have_no_order_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"reward 'mine' gave \w+; expected a list"):
        checked_scores(lambda prompts, completions: given, [PROMPT] * 2, [ANSWER] * 2, name="mine")


def test_the_sum_weighs_each_score() -> None:
    assert total((2.0, 0.5), (1.0, 3.0), (-1.0, 1.5)) == 2.5


def test_an_abstention_weighs_the_others_up_to_the_full_weight() -> None:
    # 2 * 0.5 over a weight of 2, brought to the full weight of 2 + 1 + 1.
    assert total((2.0, 0.5), (1.0, None), (-1.0, None)) == 2.0
    # (2 * 0.5 - 1 * 0.4) over a weight of 3, brought to 4.
    assert total((2.0, 0.5), (1.0, None), (-1.0, 0.4)) == pytest.approx(0.8)


def test_equal_scores_give_the_same_sum_whoever_abstains() -> None:
    assert total((2.0, 0.5), (1.0, 0.5)) == total((2.0, 0.5), (1.0, None)) == 1.5


def test_any_abstention_makes_the_sum_abstain_where_asked() -> None:
    assert total((2.0, 0.5), (1.0, None), abstain="abstain") is None
    assert total((2.0, 0.5), (1.0, 1.0), abstain="abstain") == 2.0


@pytest.mark.parametrize("abstain", ["renormalise", "abstain"])
def test_the_sum_abstains_when_all_do(abstain: str) -> None:
    assert total((2.0, None), (1.0, None), abstain=abstain) is None


weights = st.floats(0.01, 100) | st.floats(-100, -0.01)
scores = st.none() | st.floats(-1000, 1000)
parts = st.lists(st.tuples(weights, scores), min_size=1, max_size=6)


@given(parts, st.randoms())
def test_the_order_of_the_rewards_does_not_matter(
    listed: list[tuple[float, float | None]], random: Any
) -> None:
    shuffled = random.sample(listed, len(listed))
    assert total(*shuffled) == total(*listed)


@given(parts, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_scaling_all_weights_scales_the_sum(
    listed: list[tuple[float, float | None]], scale: float
) -> None:
    plain, scaled = total(*listed), total(*listed, scale=scale)
    assert (plain is None and scaled is None) or scaled == pytest.approx((plain or 0.0) * scale)


def test_components_are_the_unweighted_scores_by_name() -> None:
    rewards = [(Fixed(1.0), 2.0, "a"), (Fixed(None), 3.0, "b")]
    assert WeightedSum(rewards).components([PROMPT], [ANSWER]) == {"a": [1.0], "b": [None]}


@pytest.mark.parametrize(
    ("rewards", "complaint"),
    [
        ([], "NO_REWARD_FUNCTIONS: a weighted sum needs at least one reward"),
        ([(Fixed(1), 0.0, "a")], "reward 'a': its weight is 0.0"),
        ([(Fixed(1), float("nan"), "a")], "its weight is nan"),
        ([(Fixed(1), 1.0, "a"), (Fixed(1), 1.0, "a")], "two rewards are called 'a'"),
    ],
)
def test_a_sum_that_means_nothing_is_refused(
    rewards: list[tuple[RewardFunction, float, str]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        WeightedSum(rewards)


def test_a_bad_score_names_the_component() -> None:
    summed = WeightedSum([(Fixed(1.0), 1.0, "good"), (Fixed(float("nan")), 1.0, "broken")])
    with pytest.raises(ValueError, match="reward 'broken', row 0"):
        summed([PROMPT], [ANSWER])


def test_a_sum_is_a_reward_model_where_a_part_is_one() -> None:
    model = Fixed(1.0)
    model.kind = "reward_model"  # type: ignore[attr-defined]
    assert WeightedSum([(Fixed(1.0), 1.0, "a")]).kind == "rule"
    assert WeightedSum([(Fixed(1.0), 1.0, "a"), (model, 1.0, "b")]).kind == "reward_model"


def config(use: str, **fields: Any) -> RewardConfig:
    return RewardConfig(use=use, **fields)


def test_a_reward_is_built_from_its_config() -> None:
    reward = build_reward(
        [
            config("curation.rewards.rules:LengthReward", args={"at_most": 2}, name="short"),
            config("curation.rewards.rules:RegexReward", args={"pattern": "a"}, weight=-0.5),
        ]
    )
    assert reward.name == "short+RegexReward"
    assert reward([PROMPT], [Completion.from_text("a b c d")]) == [0.0]


def shout(
    prompts: Sequence[Prompt], completions: Sequence[Completion], *, mark: str = "!"
) -> list[float | None]:
    """A reward that a user might write: one function."""
    return [float(completion.text.endswith(mark)) for completion in completions]


@pytest.fixture
def user_module(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("user_rewards")
    module.shout = shout  # type: ignore[attr-defined]
    module.seven = 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "user_rewards", module)
    return "user_rewards"


def test_a_function_is_a_reward_and_args_are_its_keywords(user_module: str) -> None:
    answers = [Completion.from_text("Yes!"), Completion.from_text("Yes?")]
    plain = build_reward([config(f"{user_module}:shout")])
    asking = build_reward([config(f"{user_module}:shout", args={"mark": "?"})])
    assert plain([PROMPT] * 2, answers) == [1.0, 0.0]
    assert asking([PROMPT] * 2, answers) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("use", "args", "complaint"),
    [
        ("rules:LengthReward", {"at_mst": 2}, "args: unknown key 'at_mst'; did you mean 'at_most'"),
        ("rules:LengthReward", {}, "'LengthReward': a length reward needs either target"),
        ("rules:LengthReward", {"at_most": "few"}, "at_most: Input should be a valid integer"),
        ("rules:RegexReward", {}, "args: 'pattern' is missing"),
        ("rules:LenghtReward", {}, "has no 'LenghtReward'"),
        ("nowhere:Reward", {}, "cannot import"),
        ("model:RewardModel", {"path": "./nowhere"}, "model folder './nowhere' does not exist"),
        ("model:RewardModel", {"pth": "x"}, "unknown key 'pth'; did you mean 'path'"),
    ],
)
def test_args_that_do_not_fit_are_refused_in_one_sentence(
    use: str, args: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        build_reward([config(f"curation.rewards.{use}", args=args)])
    assert str(caught.value).startswith(f"reward '{use.rpartition(':')[2]}': ")
    assert "\n" not in str(caught.value)


def test_args_that_do_not_fit_a_function_are_refused(user_module: str) -> None:
    with pytest.raises(ValueError, match="unknown key 'marc'; did you mean 'mark'"):
        build_reward([config(f"{user_module}:shout", args={"marc": "?"})])
    with pytest.raises(ValueError, match="is no class or function"):
        build_reward([config(f"{user_module}:seven")])


def test_a_prompt_is_judged_where_a_reward_or_if_asked_each_reward_can() -> None:
    exact, length = (ExactAnswer(), 1.0, "exact"), (LengthReward(at_most=9), 1.0, "length")
    answered = PROMPT.model_copy(update={"answer": "Something."})
    assert not WeightedSum([exact]).judges(PROMPT)
    assert WeightedSum([exact]).judges(answered)
    assert WeightedSum([exact, length]).judges(PROMPT)
    assert not WeightedSum([exact, length], "abstain").judges(PROMPT)
    assert WeightedSum([(Fixed(1.0), 1.0, "own")]).judges(PROMPT)


def test_an_error_of_a_reward_says_in_which() -> None:
    def broken(prompts: Any, completions: Any) -> list[float | None]:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError) as caught:
        checked_scores(broken, [PROMPT], [ANSWER], name="mine")
    assert caught.value.__notes__ == ["in reward 'mine'"]


def test_a_fault_in_a_rewards_code_is_told_as_the_mistake_that_it_is() -> None:
    def faulty(prompts: Any, completions: Any) -> list[float | None]:
        return [prompts[7]]

    with pytest.raises(ValueError, match=r"reward 'mine' raised IndexError: .*has to be mended"):
        checked_scores(faulty, [PROMPT], [ANSWER], name="mine")


def columns_by_name(completions: Any, ground_truth: Any, **others: Any) -> list[float]:
    return [1.0] * len(completions)


class OfOneText:
    def __call__(self, text: str) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("reward", "takes"),
    [
        (columns_by_name, r"completions.*, ground_truth.*, \*\*others"),
        (OfOneText, "text"),
        (lambda *, prompts, completions: [], r"prompts, completions\)"),
    ],
)
def test_a_reward_that_is_called_otherwise_is_refused_before_it_gets_the_wrong_things(
    reward: Any, takes: str, user_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{user_module}.other", reward, raising=False)
    with pytest.raises(ValueError, match=rf"takes \(.*{takes}.*expected \(prompts, completions\)"):
        build_reward([config(f"{user_module}:other")])


def test_prompts_are_checked_before_anything_is_sampled() -> None:
    reward = build_reward(
        [
            config("curation.rewards.rules:LengthReward", args={"at_most": 2}),
            config("curation.rewards.instructions:VerifiableInstructions"),
        ]
    )
    broken = PROMPT.model_copy(update={"instructions": (Instruction(name="punctuation:no"),)})
    reward.check([PROMPT])
    with pytest.raises(ValueError, match="unknown instruction 'punctuation:no'"):
        reward.check([PROMPT, broken])


class Reader(Fixed):
    """Cannot render a prompt that says `odd`."""

    def check(self, prompt: Prompt) -> None:
        if prompt.messages[0].content == "odd":
            raise TemplateError("ODD", "it is odd")


def test_prompts_that_a_reward_model_cannot_read_are_told_unless_they_are_all() -> None:
    odd = Prompt(messages=(Message(role="user", content="odd"),))
    reward = WeightedSum([(Fixed(1.0), 1.0, "rule"), (Reader(None), 1.0, "model")])
    assert [error.code for error in reward.check([PROMPT, odd])] == ["ODD"]
    assert reward.check([PROMPT]) == reward.check([]) == []
    with pytest.raises(TemplateError, match="it is odd"):
        reward.check([odd])


def test_the_same_text_gets_the_same_score_alone_and_in_a_sum() -> None:
    rule = LengthReward(at_most=3)
    answers = [Completion.from_text("word " * count) for count in range(1, 9)]
    assert WeightedSum([(rule, 1.0, "short")])([PROMPT] * 8, answers) == rule([PROMPT] * 8, answers)


def test_loading_the_module_loads_no_torch(tmp_path: Path) -> None:
    import subprocess

    code = "import sys, curation.rewards.weighted, curation.rankers; print('torch' in sys.modules)"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"

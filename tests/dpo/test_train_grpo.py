"""GRPO on a tiny random model, from prompts and a reward to the policy's folder."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from curation.chat import TemplateError
from curation.models import load_policy
from curation.rewards.weighted import WeightedSum
from dpo.group_judge import GroupJudge, Item
from dpo.online import OnlineResult, OnlineStep
from dpo.rollouts import OnlineLog
from dpo.train_grpo import train_grpo
from dpo.watch import Watch
from schemas.configs import GrpoConfig, LoraConfig, ModelConfig, RewardConfig, WatchConfig
from schemas.records import Completion, Message, Prompt

SMALL_LORA = LoraConfig(r=4, alpha=8)
FAST = {
    "lora": None,
    "lr_scheduler_type": "constant",
    "num_train_epochs": 5,
    "num_generations": 8,
    "per_device_train_batch_size": 16,
}
"""Settings that move the tiny model far in 15 steps."""
UNWATCHED = Watch(WatchConfig(), None, ())
Train = Callable[..., OnlineResult]


def _prompts(number: int, **fields: Any) -> list[Prompt]:
    return [
        Prompt(messages=(Message(role="user", content=f"Question {index}?"),), **fields)
        for index in range(number)
    ]


def _spaces(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    return [float(completion.text.count(" ")) for completion in completions]


def _sum(*rewards: Any) -> WeightedSum:
    return WeightedSum([(reward, 1.0, reward.__name__.strip("_")) for reward in rewards])


@pytest.fixture
def train(tiny_model_folder: Path, tmp_path: Path) -> Train:
    """`train_grpo` with 2 prompts x 4 answers a step; keywords go to TRL."""

    def run(
        *,
        prompts: Sequence[Prompt] | None = None,
        out: str = "out",
        model: ModelConfig | None = None,
        lora: LoraConfig | None = SMALL_LORA,
        reward: Any = None,
        watch: Watch = UNWATCHED,
        seed: int = 1,
        progress: Any = None,
        **trainer: Any,
    ) -> OnlineResult:
        keys = {
            "learning_rate": 1e-2,
            "num_generations": 4,
            "per_device_train_batch_size": 8,
            "max_completion_length": 6,
            "num_train_epochs": 1,
        }
        return train_grpo(
            _prompts(6) if prompts is None else prompts,
            model or ModelConfig(path=str(tiny_model_folder)),
            GrpoConfig(lora=lora, trainer={**keys, **trainer}),
            _sum(_spaces) if reward is None else reward,
            watch=watch,
            out=tmp_path / out,
            seed=seed,
            progress=progress,
        )

    return run


def _weights(result: OnlineResult) -> dict[str, torch.Tensor]:
    (file,) = result.policy.glob("*.safetensors")
    return dict(load_file(file))


def test_the_reward_rises_as_the_policy_moves_away_from_where_it_started(train: Train) -> None:
    result = train(**FAST)

    rewards = [step.reward or 0.0 for step in result.steps]
    assert len(rewards) == 15
    assert sum(rewards[-5:]) > 1.5 * sum(rewards[:5])
    assert result.steps[0].kl == 0
    assert result.steps[-1].kl > 0.1
    assert result.steps[-1].entropy < result.steps[0].entropy
    assert all(math.isfinite(step.grad_norm) for step in result.steps)
    # A random model's next token is all but uniform over its vocabulary of 476.
    assert result.steps[0].entropy == pytest.approx(math.log(476), abs=0.1)
    policy = load_policy(ModelConfig(path=str(result.policy)))
    assert result.facts["weights"] == policy.weights != result.facts["start_weights"]


def test_the_log_holds_every_rollout_with_the_figures_of_its_step(train: Train) -> None:
    watch = Watch(WatchConfig(), _sum(_length), ())
    result = train(reward=_sum(_spaces, _length), watch=watch)

    log = OnlineLog(result.policy.parent)
    assert log.read_steps() == result.steps
    rollouts = list(log.read_rollouts())
    assert len(rollouts) == result.facts["rollouts"] == 24
    tokens = 0
    for step in result.steps:
        mine = [rollout for rollout in rollouts if rollout.step == step.step]
        tokens += sum(rollout.tokens for rollout in mine)
        assert step.tokens == tokens
        assert tuple(rollout.prompt_id for rollout in mine) == step.prompt_ids
        assert step.reward == pytest.approx(sum(r.reward or 0 for r in mine) / 8)
        assert step.kl == pytest.approx(sum(r.kl for r in mine) / sum(r.tokens for r in mine))
        assert step.unfinished == sum(not rollout.finished for rollout in mine) / 8
        for rollout in mine:
            spaces, length = rollout.text.count(" "), len(rollout.text)
            assert rollout.components == {"spaces": spaces, "length": length}
            assert rollout.reward == spaces + length
            assert rollout.held_out_rewards == {"length": length}
        for group in (mine[:4], mine[4:]):
            assert len({rollout.prompt_id for rollout in group}) == 1
            found = torch.tensor([rollout.advantage for rollout in group], dtype=torch.float64)
            scores = torch.tensor([rollout.reward for rollout in group], dtype=torch.float64)
            torch.testing.assert_close(found, (scores - scores.mean()) / (scores.std() + 1e-4))


def _length(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    return [float(len(completion.text)) for completion in completions]


def test_what_a_prompt_says_of_its_answer_reaches_the_reward_once_for_each_rollout(
    train: Train,
) -> None:
    seen: list[Prompt] = []

    def knows(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        assert len(prompts) == len(completions)
        seen.extend(prompts)
        return [1.0] * len(prompts)

    prompts = _prompts(2, answer="4", tags=("sums",))
    train(prompts=prompts, reward=_sum(knows))
    assert [prompt.answer for prompt in seen] == ["4"] * 8
    assert {prompt.tags for prompt in seen} == {("sums",)}
    assert sorted(prompt.id for prompt in seen) == sorted(p.id for p in prompts for _ in range(4))


def test_an_abstaining_reward_is_no_zero_and_its_means_are_of_what_it_judged(train: Train) -> None:
    def half(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        return [None if row % 2 else 5.0 + row for row in range(len(prompts))]

    result = train(prompts=_prompts(2), reward=_sum(half))
    (step,) = result.steps
    assert step.abstained == 4
    # Rows 0, 2, 4 and 6 are judged: 5, 7, 9 and 11.
    assert step.reward == step.components["half"] == 8.0
    *_, last = OnlineLog(result.policy.parent).read_rollouts()
    assert (last.reward, last.advantage) == (None, 0.0)


def test_where_nobody_judges_nothing_is_learned(train: Train) -> None:
    def silent(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        return [None] * len(prompts)

    result = train(reward=_sum(silent))
    assert [step.reward for step in result.steps] == [None] * 3
    assert [step.equal_groups for step in result.steps] == [None] * 3
    codes = [note.partition(":")[0] for note in result.facts["health"]]
    assert codes == ["NOT_JUDGED"]
    assert all(step.grad_norm == 0 for step in result.steps)
    weights = _weights(result)
    assert all(not weight.any() for name, weight in weights.items() if "lora_B" in name)


def test_no_learning_is_said_of_equal_rewards_and_not_of_a_loss_of_zero(train: Train) -> None:
    def constant(
        prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        return [0.3] * len(prompts)

    learning = train(out="learning")
    # The ratio is 1 and advantages sum to 0, so that the loss is 0 while the gradient is not.
    assert max(abs(step.loss) for step in learning.steps) < 1e-6
    assert min(step.grad_norm for step in learning.steps) > 1e-3
    assert not any("NO_CONTRAST" in note for note in learning.facts["health"])
    idle = train(out="idle", reward=_sum(constant))
    assert any(note.startswith("NO_CONTRAST") for note in idle.facts["health"])


def test_a_reward_that_is_not_finite_ends_the_run_before_it_trains(train: Train) -> None:
    def broken(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        return [math.nan] * len(prompts)

    with pytest.raises(ValueError, match=r"reward 'broken', row 0 .*expected a finite number"):
        train(reward=_sum(broken))


def test_fewer_prompts_than_a_step_takes_are_an_error_with_the_numbers(train: Train) -> None:
    with pytest.raises(
        ValueError,
        match=r"DATASET_SMALLER_THAN_BATCH: 3 prompts but a step takes 4 \(16 answers, 4 a prompt",
    ):
        train(prompts=_prompts(3), per_device_train_batch_size=16)


def test_prompts_that_fill_no_step_are_reported_before_training(train: Train) -> None:
    said: list[str] = []
    result = train(
        prompts=_prompts(10),
        per_device_train_batch_size=16,
        num_train_epochs=2,
        progress=lambda text, done, total: said.append(text),
    )
    assert said[0].startswith("ROWS_DROPPED: 2 of 10 prompts are left out of each epoch")
    assert said[1].startswith("reward ")
    assert result.facts["rows_dropped"] == 2
    assert len(result.steps) == 4
    used = {prompt_id for step in result.steps for prompt_id in step.prompt_ids}
    assert result.facts["prompts_used"] == len(used) > 8


def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused(train: Train) -> None:
    prompts = [*_prompts(3), Prompt(messages=(Message(role="user", content="cat " * 2100),))]
    with pytest.raises(ValueError, match=f"prompt '{prompts[-1].id}' has .* the model's 2048"):
        train(prompts=prompts)


def test_a_model_whose_logits_trl_does_not_know_is_refused(
    train: Train, capped_model: ModelConfig
) -> None:
    with pytest.raises(ValueError, match=r"HEAD_DIFFERS: .* recurrent_gemma does more"):
        train(model=capped_model, temperature=0.7)


def _same(ours: OnlineResult, theirs: OnlineResult) -> None:
    assert ours.steps == theirs.steps
    for name, weight in _weights(ours).items():
        assert torch.equal(weight, _weights(theirs)[name])


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("killed_at", "keys"),
    [
        (2, {"beta": 0.1}),
        (4, {"lora": LoraConfig(r=4, alpha=8, dropout=0.2)}),
        (3, {"lora": None, "num_iterations": 2, "save_steps": 4, "max_steps": 10, "beta": 0.1}),
    ],
    ids=["inside-an-epoch", "after-an-epoch-with-dropout", "full-with-two-updates-a-step"],
)
def test_a_killed_run_goes_on_to_equal_numbers(
    killed_at: int, keys: dict[str, Any], train: Train
) -> None:
    def die(text: str, done: int, total: int) -> None:
        if done == killed_at:
            raise _Killed

    keys = {"save_steps": 1, "max_steps": 5, **keys}
    whole = train(out="whole", **keys)
    with pytest.raises(_Killed):
        train(out="killed", progress=die, **keys)
    resumed = train(out="killed", **keys)

    assert resumed.facts["resumed_from_step"] == killed_at - 1
    _same(resumed, whole)
    rollouts = [list(OnlineLog(r.policy.parent).read_rollouts()) for r in (resumed, whole)]
    assert rollouts[0] == rollouts[1]


def test_a_killed_run_from_an_adapter_of_its_own_goes_on_to_equal_numbers(
    train: Train, tiny_model_folder: Path
) -> None:
    sft = train(out="sft", learning_rate=5e-2, max_steps=2)
    start = ModelConfig(path=str(tiny_model_folder), adapter=str(sft.policy))

    def die(text: str, done: int, total: int) -> None:
        if done == 2:
            raise _Killed

    keys = {"model": start, "beta": 0.1, "save_steps": 1, "max_steps": 3}
    whole = train(out="whole", **keys)
    with pytest.raises(_Killed):
        train(out="killed", progress=die, **keys)
    resumed = train(out="killed", **keys)

    assert resumed.facts["resumed_from_step"] == 1
    _same(resumed, whole)
    # The copy of the adapter that the KL is measured from is no part of the policy.
    assert not [path for path in resumed.policy.iterdir() if path.is_dir()]


def test_a_run_that_was_killed_once_all_its_steps_were_made_only_saves(train: Train) -> None:
    watch = Watch(WatchConfig(stop_kl=1e-3), None, ())
    ends: dict[str, dict[str, Any]] = {
        "after an epoch": {},
        "inside an epoch": {"max_steps": 2},
        "stopped": {"watch": watch, "num_train_epochs": 8},
    }
    for out, keys in ends.items():
        done = train(out=out, save_steps=1, **keys)
        weights = _weights(done)
        again = train(out=out, save_steps=1, **keys)
        assert again.steps == done.steps
        assert again.facts["stopped"] == done.facts["stopped"]
        assert again.facts["resumed_from_step"] == len(done.steps)
        for name, weight in _weights(again).items():
            assert torch.equal(weight, weights[name])


def test_answering_held_out_prompts_changes_nothing_in_training(train: Train) -> None:
    watch = Watch(WatchConfig(every=1, prompts=2), None, _prompts(9)[6:])
    dropout = LoraConfig(r=4, alpha=8, dropout=0.2)
    watched = train(out="watched", watch=watch, lora=dropout)
    unwatched = train(out="unwatched", lora=dropout)

    assert all(step.held_out_reward is not None for step in watched.steps)
    apart = [step.model_copy(update={"held_out_reward": None}) for step in watched.steps]
    assert apart == unwatched.steps
    for name, weight in _weights(watched).items():
        assert torch.equal(weight, _weights(unwatched)[name])


def test_held_out_answers_are_sampled_in_the_trainers_precision_and_scored_in_their_own(
    train: Train,
) -> None:
    seen: dict[str, set[bool]] = {"model": set(), "reward": set()}

    def sees(module: Any, _: Any, options: dict[str, Any], __: Any) -> None:
        # Sampling alone keeps a cache.
        if type(module).__name__.endswith("ForCausalLM") and options.get("use_cache"):
            seen["model"].add(torch.is_autocast_enabled("cpu"))

    def score(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        seen["reward"].add(torch.is_autocast_enabled("cpu"))
        return _spaces(prompts, completions)

    watch = Watch(WatchConfig(every=1, prompts=2), None, _prompts(9)[6:])
    hook = torch.nn.modules.module.register_module_forward_hook(sees, with_kwargs=True)
    try:
        train(reward=_sum(score), watch=watch, bf16=True, max_steps=1)
    finally:
        hook.remove()
    assert seen == {"model": {True}, "reward": {False}}


@pytest.mark.parametrize(
    ("change", "goes_on"),
    [
        ({"stop_kl": 9.0, "window": 2}, True),
        ({"every": 2}, False),
        ({"prompts": 1}, False),
        ({"rewards": (RewardConfig(use="curation.rewards.rules:LengthReward"),)}, False),
    ],
)
def test_a_run_goes_on_under_other_stop_rules_but_not_with_another_held_out_curve(
    change: dict[str, Any], goes_on: bool, train: Train
) -> None:
    keys: dict[str, Any] = {"every": 1, "prompts": 2, "stop_kl": 8.0}
    for watched, resumed in ((keys, 0), ({**keys, **change}, int(goes_on))):
        watch = Watch(WatchConfig(**watched), None, _prompts(9)[6:])
        assert train(watch=watch, max_steps=1).facts["resumed_from_step"] == resumed


def test_sampling_that_the_log_probs_do_not_know_is_told(train: Train) -> None:
    (note,) = train(top_k=5, min_p=0.1, max_steps=1).facts["health"]
    assert note.startswith("OFF_POLICY: answers are sampled with top_k and min_p, while")


def test_a_watch_on_kl_ends_the_training_with_its_reason(train: Train) -> None:
    watch = Watch(WatchConfig(stop_kl=1e-3), None, ())
    result = train(watch=watch, num_train_epochs=8)
    assert result.steps[-1].kl > 1e-3
    assert all(step.kl <= 1e-3 for step in result.steps[:-1])
    assert len(result.steps) < 24
    assert f"step {len(result.steps)}: KL" in result.facts["stopped"]


@pytest.mark.parametrize("lora", [SMALL_LORA, None], ids=["adapter", "merged"])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_a_policy_with_an_adapter_of_its_own_is_measured_from_that(
    lora: LoraConfig | None, beta: float, train: Train, tiny_model_folder: Path
) -> None:
    sft = train(out="sft", learning_rate=5e-2)
    assert abs(sft.steps[-1].kl) > 1e-3
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(sft.policy))
    steps = train(model=model, lora=lora, beta=beta, learning_rate=1e-3).steps
    assert steps[0].kl == pytest.approx(0, abs=1e-6)
    assert steps[0].loss == pytest.approx(0, abs=1e-6)
    assert steps[-1].kl != pytest.approx(0, abs=1e-6)


class _ReadsSome:
    """A reward whose template does not render the first of the prompts."""

    def check(self, prompt: Prompt) -> None:
        if prompt.messages[0].content == "Question 0?":
            raise TemplateError("UNREAD", "it is not rendered")

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        read = [prompt.messages[0].content != "Question 0?" for prompt in prompts]
        return [
            score if ok else None
            for score, ok in zip(_spaces(prompts, completions), read, strict=True)
        ]


def test_a_prompt_that_a_reward_cannot_read_ends_no_training(train: Train) -> None:
    result = train(reward=WeightedSum([(_ReadsSome(), 1.0, "some")]))
    assert sum(step.abstained for step in result.steps) == 4


def test_a_kl_in_the_loss_holds_the_policy_back(train: Train) -> None:
    free = train(out="free", **FAST)
    held = train(out="held", **FAST, beta=2.0)
    assert held.steps[-1].kl < 0.5 * free.steps[-1].kl


class _Said(NamedTuple):
    share: float | None


class _LikesSpaces:
    name = "likes-spaces"

    def compare(self, items: Sequence[Item]) -> list[_Said]:
        counts = [(one.text.count(" "), other.text.count(" ")) for _, one, other in items]
        return [_Said(0.5 if a == b else float(a > b)) for a, b in counts]


def test_a_pairwise_judge_trains_by_win_rates_within_the_group(train: Train) -> None:
    result = train(reward=GroupJudge(_LikesSpaces()), **FAST)
    rollouts = list(OnlineLog(result.policy.parent).read_rollouts())
    for step in result.steps:
        assert step.reward == pytest.approx(0.5)
        assert step.components == {"likes-spaces": step.reward}

    def spaces(steps: list[OnlineStep]) -> int:
        numbers = {step.step for step in steps}
        return sum(r.text.count(" ") for r in rollouts if r.step in numbers)

    assert spaces(result.steps[-5:]) > 1.5 * spaces(result.steps[:5])
    assert result.facts["rewards"] == {"likes-spaces": 1.0}


def test_a_judge_has_no_reward_for_held_out_prompts_and_is_told_so(train: Train) -> None:
    watch = Watch(WatchConfig(every=2, prompts=2), None, _prompts(2))
    with pytest.raises(
        ValueError, match=r"grpo.watch.every is 2, but the judge 'likes-spaces' only"
    ):
        train(reward=GroupJudge(_LikesSpaces()), watch=watch)


def test_the_same_seed_gives_the_same_run_and_another_another(train: Train) -> None:
    one, again, other = train(out="1"), train(out="2"), train(out="3", seed=2)
    _same(one, again)
    assert one.steps[0].reward != other.steps[0].reward or one.steps[0].loss != other.steps[0].loss


def test_nothing_is_printed(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    train()
    assert capfd.readouterr().out == ""

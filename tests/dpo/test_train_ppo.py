"""PPO on a tiny random model: that it learns, what it leaves, and that a killed one goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from curation.models import Policy, load_chat, load_policy
from curation.rewards.weighted import WeightedSum
from curation.tiny import build_tiny_reward_model
from dpo.online import OnlineResult
from dpo.policy import FrozenStart, load_with_adapter
from dpo.rollouts import OnlineLog
from dpo.train_ppo import train_ppo
from dpo.watch import Watch
from schemas.configs import LoraConfig, ModelConfig, PpoConfig, WatchConfig
from schemas.records import Completion, Message, Prompt

SMALL = {
    "steps": 3,
    "rollouts": 4,
    "minibatch": 2,
    "max_new_tokens": 6,
    "learning_rate": 1e-2,
    "lora": LoraConfig(r=4, alpha=8),
}


def make_prompt(number: int) -> Prompt:
    return Prompt(messages=(Message(role="user", content=f"Question {'a' * number}?"),))


PROMPTS = [make_prompt(number) for number in range(5)]


def vowels(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    """A tenth a vowel, at most 1."""
    counts = [sum(map(completion.text.count, "aeiou")) for completion in completions]
    return [min(count, 10) / 10 for count in counts]


def length(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    return [float(len(completion.text)) for completion in completions]


def only_even(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    """Abstains on prompts of odd number."""
    return [1.0 if len(prompt.messages[0].content or "") % 2 else None for prompt in prompts]


VOWELS = WeightedSum([(vowels, 1.0, "vowels")])
Train = Callable[..., OnlineResult]


@pytest.fixture
def train_online(tiny_model_folder: Path, tmp_path: Path) -> Train:
    """`train_ppo` on the tiny model; keywords go to the config."""

    def run(
        *,
        out: str = "out",
        model: ModelConfig | None = None,
        reward: Any = VOWELS,
        prompts: Sequence[Prompt] = PROMPTS,
        watch: Watch | None = None,
        seed: int = 1,
        progress: Any = None,
        **keys: Any,
    ) -> OnlineResult:
        return train_ppo(
            prompts,
            model or ModelConfig(path=str(tiny_model_folder)),
            PpoConfig(**{**SMALL, **keys}),
            reward,
            watch=watch or Watch(WatchConfig(), None, ()),
            out=tmp_path / out,
            seed=seed,
            progress=progress,
        )

    return run


def weights_of(result: OnlineResult) -> dict[str, torch.Tensor]:
    adapter = result.policy / "adapter_model.safetensors"
    return load_file(adapter if adapter.exists() else result.policy / "model.safetensors")


def test_the_policy_learns_what_the_reward_likes(train_online: Train) -> None:
    result = train_online(
        steps=20, rollouts=16, minibatch=8, max_new_tokens=10, learning_rate=3e-3, kl_coef=0.0,
        value_learning_rate=1e-2, lora=None,
    )  # fmt: skip
    rewards = [step.reward or 0.0 for step in result.steps]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.25
    assert result.steps[0].kl == pytest.approx(0, abs=1e-6)
    assert result.steps[-1].kl > 0.2
    assert result.steps[-1].entropy < result.steps[0].entropy


def test_a_heavier_kl_keeps_the_policy_nearer(train_online: Train) -> None:
    keys = {"steps": 8, "rollouts": 8, "minibatch": 4, "learning_rate": 3e-3, "lora": None}
    free, held = (
        train_online(out=str(coef), kl_coef=coef, **keys).steps[-1].kl for coef in (0.0, 1.0)
    )
    assert held < free / 2


def test_a_step_says_what_it_saw_and_did(train_online: Train) -> None:
    heard: list[Any] = []
    watched = Watch(
        WatchConfig(every=2, prompts=2), WeightedSum([(length, 1.0, "length")]), PROMPTS
    )
    result = train_online(
        watch=watched, progress=lambda *news: heard.append(news), warmup_steps=2, kl_target=0.1
    )
    rollouts = list(OnlineLog(result.policy.parent).read_rollouts())
    assert [step.step for step in result.steps] == [1, 2, 3]
    assert [news[1:] for news in heard] == [(1, 3), (2, 3), (3, 3)]
    tokens = 0
    for step in result.steps:
        mine = [rollout for rollout in rollouts if rollout.step == step.step]
        assert [rollout.prompt_id for rollout in mine] == list(step.prompt_ids)
        tokens += sum(rollout.tokens for rollout in mine)
        assert step.tokens == tokens
        rewards = [rollout.reward or 0.0 for rollout in mine]
        assert step.reward == pytest.approx(sum(rewards) / 4)
        assert step.components == {"vowels": pytest.approx(step.reward)}
        mean_length = sum(len(rollout.text) for rollout in mine) / 4
        assert step.held_out_rewards == {"length": pytest.approx(mean_length)}
        assert step.length == sum(rollout.tokens for rollout in mine) / 4
        kl = sum(rollout.kl for rollout in mine) / sum(rollout.tokens for rollout in mine)
        assert step.kl == pytest.approx(kl)
        assert step.unfinished == sum(not rollout.finished for rollout in mine) / 4
        assert (step.held_out_reward is None) == (step.step == 3)
    assert [step.learning_rate for step in result.steps] == [0.5e-2, 1e-2, 1e-2]
    # No KL at first, so the coefficient falls by the most: 0.2 * 4 / 10,000.
    assert result.steps[0].kl_coef == 0.05
    assert result.steps[1].kl_coef == pytest.approx(0.05 * (1 - 0.2 * 4 / 10_000))
    assert result.facts["tokens_sampled"] == tokens


def test_every_prompt_is_asked_once_a_round_and_a_short_batch_goes_on(train_online: Train) -> None:
    steps = train_online(steps=5, rollouts=4, n=2, minibatch=4).steps
    asked = [prompt_id for step in steps for prompt_id in step.prompt_ids[::2]]
    # The answers of a step come in an order of their own, so rounds are told by counting.
    assert sorted(asked) == sorted([prompt.id for prompt in PROMPTS] * 2)
    for step in steps:
        assert step.prompt_ids[::2] == step.prompt_ids[1::2]


def test_one_prompt_over_and_over_is_answered_anew(
    train_online: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In two batches a step that hold the same prompts.
    monkeypatch.setattr("dpo.ppo_rollouts._DECODED_TOGETHER", 2)
    result = train_online(prompts=PROMPTS[:1], steps=2)
    texts = [rollout.text for rollout in OnlineLog(result.policy.parent).read_rollouts()]
    assert len(set(texts)) == 8


def test_what_no_reward_judges_is_counted_and_left_out(train_online: Train) -> None:
    result = train_online(reward=WeightedSum([(only_even, 1.0, "even")]), rollouts=10, minibatch=2)
    rollouts = list(OnlineLog(result.policy.parent).read_rollouts())
    missing = [rollout for rollout in rollouts if rollout.reward is None]
    assert sum(step.abstained for step in result.steps) == len(missing) == result.facts["abstained"]
    assert missing
    assert all(rollout.advantage is None for rollout in missing)
    assert all(step.reward == 1.0 for step in result.steps)


def test_a_reward_that_judges_nothing_changes_nothing(train_online: Train) -> None:
    def silent(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        return [None for _ in completions]

    result = train_online(reward=WeightedSum([(silent, 1.0, "silent")]))
    assert [step.policy_loss for step in result.steps] == [None] * 3
    assert [step.kl for step in result.steps] == pytest.approx([0] * 3, abs=1e-6)


def test_an_answer_without_an_end_loses_the_penalty_and_keeps_its_score(
    tiny_policy: Policy,
) -> None:
    from curation.generators import completion_of
    from dpo.ppo_rollouts import Sampled, Worth, penalised

    # The prompt, as the template renders it, has ends of its own: they do not count.
    eos = tiny_policy.tokenizer.eos_token_id
    assert eos in tiny_policy.chat.prompt_ids(PROMPTS[0])
    ended, cut = (
        Sampled(PROMPTS[0], completion_of(tiny_policy.chat, PROMPTS[0], ids))
        for ids in ([40, 41, eos, 0, 0], [40, 41, 42])
    )
    worth = Worth(0.5, {}, {})
    assert penalised(ended, worth, 1.0) == 0.5
    assert penalised(cut, worth, 1.0) == -0.5
    assert penalised(cut, worth, 0.0) == 0.5
    assert penalised(cut, Worth(None, {}, {}), 1.0) is None
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        PpoConfig(missing_eos_penalty=-1.0)


def test_a_reward_model_of_another_vocabulary_reads_texts(
    train_online: Train, tmp_path: Path
) -> None:
    from curation.rewards.model import RewardModel

    folder = build_tiny_reward_model(tmp_path / "reward")
    judge = RewardModel(path=str(folder))
    result = train_online(reward=WeightedSum([(judge, 1.0, "model")]), steps=1)
    by_id = {prompt.id: prompt for prompt in PROMPTS}
    for rollout in OnlineLog(result.policy.parent).read_rollouts():
        again = judge([by_id[rollout.prompt_id]], [Completion.from_text(rollout.text)])
        assert rollout.reward == pytest.approx(again[0], abs=1e-5)


def test_a_judge_of_pairs_is_refused(train_online: Train) -> None:
    with pytest.raises(ValueError, match=r"give ppo\.rewards, or train with grpo"):
        train_online(reward=lambda prompts, completions: [])


def test_a_prompt_that_does_not_fit_is_named_before_training(train_online: Train) -> None:
    long = Prompt(messages=(Message(role="user", content="long " * 3000),))
    with pytest.raises(ValueError, match=f"prompt '{long.id}' has .* does not fit"):
        train_online(prompts=[*PROMPTS, long])


def test_watching_ends_the_training(train_online: Train) -> None:
    watch = Watch(WatchConfig(stop_kl=1e-9), None, ())
    result = train_online(watch=watch, steps=9, learning_rate=1e-1)
    assert len(result.steps) < 9
    assert "stop_kl" in result.facts["stopped"]
    assert train_online(watch=watch, steps=9, learning_rate=1e-1).steps == result.steps


@pytest.mark.parametrize(
    ("value", "lora"), [("shared", LoraConfig(r=4, alpha=8)), ("separate", None)]
)
def test_a_run_that_goes_on_ends_as_one_that_was_not_interrupted(
    value: str, lora: LoraConfig | None, train_online: Train, tmp_path: Path
) -> None:
    keys = {
        "value": value, "lora": lora, "steps": 4, "save_steps": 2, "kl_target": 0.01,
        "kl_horizon": 20, "warmup_steps": 3,
    }  # fmt: skip
    whole = train_online(out="whole", **keys)

    def stop(note: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_online(progress=stop, **keys)
    resumed = train_online(**keys)
    assert resumed.facts["resumed_from_step"] == 2
    assert resumed.steps == whole.steps
    assert resumed.facts["weights"] == whole.facts["weights"] != whole.facts["start_weights"]
    assert resumed.facts["final_kl_coef"] == whole.facts["final_kl_coef"]
    for name in ("steps.jsonl", "rollouts.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_setting_starts_again_and_the_micro_batch_is_none(train_online: Train) -> None:
    done = train_online(steps=1)
    again = train_online(steps=1, microbatch=1)
    assert (again.facts["resumed_from_step"], again.steps) == (1, done.steps)
    assert train_online(steps=1, clip=0.3).facts["resumed_from_step"] == 0


@pytest.mark.parametrize(
    ("change", "goes_on"), [({"stop_kl": 9.0, "window": 2}, True), ({"prompts": 1}, False)]
)
def test_a_run_goes_on_under_other_stop_rules_but_not_with_another_held_out_curve(
    change: dict[str, Any], goes_on: bool, train_online: Train
) -> None:
    keys: dict[str, Any] = {"every": 1, "prompts": 2, "stop_kl": 1e-9}
    first = train_online(watch=Watch(WatchConfig(**keys), None, PROMPTS))
    assert first.facts["stopped"] is not None
    again = train_online(watch=Watch(WatchConfig(**{**keys, **change}), None, PROMPTS))
    assert (again.facts["resumed_from_step"] > 0) == goes_on


def test_the_adapter_loads_as_the_policy_and_holds_no_value(
    train_online: Train, tiny_model_folder: Path
) -> None:
    result = train_online()
    files = {path.name for path in result.policy.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= files
    assert not [name for name in weights_of(result) if "lora_" not in name]
    policy = load_policy(ModelConfig(path=str(tiny_model_folder), adapter=str(result.policy)))
    assert policy.weights == result.facts["weights"]


def test_full_training_saves_a_whole_model(train_online: Train, tiny_policy: Policy) -> None:
    result = train_online(lora=None)
    policy = load_policy(ModelConfig(path=str(result.policy)))
    assert policy.weights == result.facts["weights"]
    assert policy.chat.hash == tiny_policy.chat.hash
    assert policy.model.dtype == torch.float32


def test_an_sft_adapter_is_trained_on_while_its_frozen_copy_is_the_reference(
    train_online: Train, tiny_model_folder: Path
) -> None:
    sft = train_online(out="sft", steps=2, learning_rate=1e-1)
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(sft.policy))
    result = train_online(model=model)
    assert result.steps[0].kl == pytest.approx(0, abs=1e-6)
    assert result.steps[-1].kl != pytest.approx(0, abs=1e-6)
    assert weights_of(result).keys() == weights_of(sft).keys()
    assert not (result.policy / "reference").exists()
    whole = train_online(out="whole", model=model, lora=None)
    assert whole.steps[0].kl == pytest.approx(0, abs=1e-6)
    assert whole.steps[0].reward == result.steps[0].reward


@pytest.mark.parametrize("kind", ["lora", "adapter", "full"])
def test_the_reference_stays_while_the_policy_moves(
    kind: str, train_online: Train, tiny_model_folder: Path
) -> None:
    sft = train_online(out="sft", steps=1).policy if kind == "adapter" else None
    model = ModelConfig(path=str(tiny_model_folder), adapter=None if sft is None else str(sft))
    policy = load_with_adapter(model, None if kind == "full" else LoraConfig(r=4), seed=0).eval()
    start = FrozenStart(policy, model)
    ids = torch.tensor([load_chat(model).prompt_ids(PROMPTS[0])])
    before = policy(ids).logits
    trained = [name for name, weight in policy.named_parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.requires_grad:
                weight.add_(0.1)
    with start.weights() as reference:
        torch.testing.assert_close(reference(ids).logits, before, atol=1e-6, rtol=0)
    assert not torch.allclose(policy(ids).logits, before, atol=1e-3)
    # The scope leaves the policy as it found it, ready to train.
    again = [name for name, weight in policy.named_parameters() if weight.requires_grad]
    assert again == trained
    assert not [name for name in trained if "reference" in name]


def test_settings_that_ppo_cannot_follow_are_told(train_online: Train) -> None:
    result = train_online(steps=1, min_p=0.1, lora=LoraConfig(r=4, alpha=8, dropout=0.1))
    codes = [note.partition(":")[0] for note in result.facts["health"]]
    assert codes == ["OFF_POLICY", "NO_DROPOUT"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_a_gpu_trains_too(dtype: str, train_online: Train, tiny_model_folder: Path) -> None:
    model = ModelConfig(path=str(tiny_model_folder), device="cuda", dtype=dtype)
    result = train_online(model=model, value="separate")
    assert result.facts["device"] == "cuda"
    assert ("autocast bf16" in result.facts["precision"]) == (dtype == "auto")
    assert result.steps[0].kl == pytest.approx(0, abs=1e-2)
    assert all(step.grad_norm > 0 for step in result.steps)

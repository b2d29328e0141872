"""Our trainer against stock TRL: losses, gradients and whole updates on the same rollouts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.models import load_chat
from curation.rewards.weighted import WeightedSum
from curation.tiny import build_tiny_model
from dpo.grpo_args import trainer_args
from dpo.policy import FrozenStart, load_with_adapter
from dpo.rollouts import Scored, scored
from dpo.trl_adapters.groups import GroupTrainer
from dpo.watch import Watch
from schemas.configs import LoraConfig, ModelConfig, WatchConfig
from schemas.records import Completion, Message, Prompt

WORDS = (" the", " cat", " house", " red", " small", " sky", " blue", " week")


def _prompts(number: int) -> list[Prompt]:
    questions = (f"Question {index}:{' the cat' * (index % 4)}?" for index in range(number))
    return [Prompt(messages=(Message(role="user", content=text),)) for text in questions]


def _answer_ids(tokenizer: Any, row: int, words: int | None) -> list[int]:
    """The answer of row `row` of a step: some words and an end; each fourth goes to the limit of 8
    tokens without one, and with `words` all have that many."""
    text = "".join(WORDS[(row * 3 + at) % len(WORDS)] for at in range(8))
    ids: list[int] = tokenizer(text)["input_ids"]
    limit = words or (8 if row % 4 == 3 else None)
    return ids[:limit] if limit else [*ids[: 1 + row % 5], tokenizer.eos_token_id]


def _letters(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    return [float(len(completion.text) % 7) for completion in completions]


def _score(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Scored:
    reward = WeightedSum([(_letters, 1.0, "letters")])
    return scored(reward, Watch(WatchConfig(), None, ()), prompts, completions)


class _Given(GroupTrainer):
    """Our trainer on given answers."""

    words: int | None = None

    def _sample(self, prompt_ids: Sequence[list[int]], step: int) -> list[list[int]]:
        assert all(
            ids == self._chat.prompt_ids(self._prompts[p]) for p, ids in self._asked(prompt_ids)
        )
        return [
            _answer_ids(self._chat.tokenizer, row, self.words) for row in range(len(prompt_ids))
        ]

    def _asked(self, prompt_ids: Sequence[list[int]]) -> list[tuple[str, list[int]]]:
        known = {tuple(self._chat.prompt_ids(prompt)): id_ for id_, prompt in self._prompts.items()}
        return [(known[tuple(ids)], ids) for ids in prompt_ids]


def _ours(
    model: Path | ModelConfig,
    folder: Path,
    *,
    prompts: int = 4,
    lora: LoraConfig | None = None,
    double: bool = False,
    words: int | None = None,
    given: bool = True,
    **keys: Any,
) -> GroupTrainer:
    config = model if isinstance(model, ModelConfig) else ModelConfig(path=str(model))
    policy = load_with_adapter(config, lora, seed=1)
    if double:
        policy.double()
    keys = {"num_generations": 4, "max_completion_length": 8, "save_strategy": "no", **keys}
    trainer = (_Given if given else GroupTrainer)(
        policy,
        trainer_args(keys, folder=folder, seed=1, cpu=True, bf16=False),
        _prompts(prompts),
        load_chat(config),
        _score,
        reference=FrozenStart(policy, config),
    )
    if isinstance(trainer, _Given):
        trainer.words = words
    return trainer


def _stock(model: Path, folder: Path, *, prompts: int = 4, **keys: Any) -> Any:
    """TRL's own trainer with TRL's own tokens, rewards and reference, on the same answers."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    chat = load_chat(ModelConfig(path=str(model)))

    class Stock(GRPOTrainer):  # type: ignore[misc]
        def _generate_single_turn(self, prompt_ids: Any, *rest: Any) -> tuple[Any, None]:
            rows = range(len(prompt_ids))
            return [_answer_ids(chat.tokenizer, row, None) for row in rows], None

    def letters(completions: list[Any], **columns: Any) -> list[float]:
        return [float(len(completion[0]["content"]) % 7) for completion in completions]

    defaults = {"num_generations": 4, "max_completion_length": 8, "save_strategy": "no"}
    return Stock(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        reward_funcs=[letters],
        args=GRPOConfig(
            output_dir=str(folder),
            seed=1,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **{**defaults, **keys},
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": prompt.message_dicts()} for prompt in _prompts(prompts)]
        ),
        processing_class=chat.tokenizer,
    )


def _flat(model: Any) -> torch.Tensor:
    return torch.cat([weight.detach().double().flatten() for weight in model.parameters()])


@pytest.mark.parametrize(
    "keys",
    [
        {"loss_type": "dapo", "beta": 0.05},
        {"loss_type": "grpo", "beta": 0.05, "scale_rewards": "batch"},
        {"loss_type": "dr_grpo", "scale_rewards": "none", "temperature": 0.7},
        {"loss_type": "cispo", "epsilon_high": 5.0, "num_iterations": 2},
        {"loss_type": "dapo", "mask_truncated_completions": True, "steps_per_generation": 2},
    ],
    ids=lambda keys: "-".join(map(str, keys.values())),
)
def test_an_update_is_stock_trls_where_every_answer_is_judged(
    keys: dict[str, Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    # Plain SGD: Adam would hide a gradient of another size.
    shared = {
        "per_device_train_batch_size": 8,
        "shuffle_dataset": False,
        "optim": "sgd",
        "learning_rate": 1.0,
        "max_grad_norm": 0.0,
        "max_steps": 2,
        **keys,
    }
    ours = _ours(tiny_model_folder, tmp_path / "ours", **shared)
    start = _flat(ours.model)
    ours.train()
    theirs = _stock(tiny_model_folder, tmp_path / "theirs", **shared)
    theirs.train()

    moved = _flat(theirs.model) - start
    assert moved.norm() > 1e-2
    assert (_flat(ours.model) - start - moved).norm() < 1e-4 * moved.norm()
    for mine, stock in zip(ours.state.log_history[:-1], theirs.state.log_history[:-1], strict=True):
        assert mine["loss"] == pytest.approx(stock["loss"], abs=1e-6)
        assert mine["grad_norm"] == pytest.approx(stock["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(
    ("loss_type", "updates"),
    [(name, 1) for name in ("dapo", "grpo", "dr_grpo", "cispo", "sapo", "luspo", "vespo")]
    + [("dapo", 2), ("grpo", 2)],
)
def test_accumulated_gradients_are_the_gradient_of_one_batch(
    loss_type: str, updates: int, tiny_model_folder: Path, tmp_path: Path
) -> None:
    # With two updates a step the parts of a step have equal numbers of tokens: dapo's share of a
    # step's tokens is then each part's own.
    shared: dict[str, Any] = {
        "loss_type": loss_type,
        "beta": 0.05,
        "epsilon_high": 5.0 if loss_type == "cispo" else 0.2,
        "optim": "sgd",
        "learning_rate": 1.0,
        "max_grad_norm": 0.0,
        "max_steps": updates,
        "double": True,
        "words": None if updates == 1 else 3,
    }
    one = _ours(
        tiny_model_folder,
        tmp_path / "one",
        per_device_train_batch_size=16 // updates,
        steps_per_generation=updates,
        **shared,
    )
    start = _flat(one.model)
    one.train()
    parts = _ours(
        tiny_model_folder,
        tmp_path / "parts",
        per_device_train_batch_size=16 // updates // 4,
        gradient_accumulation_steps=4,
        steps_per_generation=4 * updates,
        **shared,
    )
    parts.train()

    moved = _flat(one.model) - start
    assert moved.norm() > 1e-3
    assert (_flat(parts.model) - start - moved).norm() < 1e-6 * moved.norm()


def _tiny_gpt2(folder: Path, tiny_model_folder: Path) -> Path:
    """A random GPT-2, which has absolute positions, with the tiny model's tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = load_chat(ModelConfig(path=str(tiny_model_folder))).tokenizer
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=128,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, initializer_range=0.5,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_log_probs_do_not_depend_on_left_padding(
    family: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = tiny_model_folder
    if family == "gpt2":
        folder = _tiny_gpt2(tmp_path / "gpt2", tiny_model_folder)
    trainer = _ours(folder, tmp_path / "out", per_device_train_batch_size=4)

    def measured(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, rows))
        ids = torch.tensor([[3] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with torch.no_grad():
            logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model.eval(), ids, mask, 2, compute_entropy=True
            )
        return logps, entropies

    short, long = [11, 12, 13], [11, 12, 13, 14, 15, 16]
    padded, alone = measured([short, long]), measured([short])
    for together, by_itself in zip(padded, alone, strict=True):
        torch.testing.assert_close(together[:1], by_itself, rtol=0, atol=1e-5)
    plain = trainer.model(torch.tensor([short])).logits[0, :-1].log_softmax(-1)
    expected = torch.stack([plain[0, 12], plain[1, 13]])
    torch.testing.assert_close(padded[0][0], expected, rtol=0, atol=1e-5)


def test_kl_and_entropy_are_those_of_the_distribution_that_samples(
    tiny_model_folder: Path, other_model_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    trainer = _ours(
        tiny_model_folder, tmp_path / "out", per_device_train_batch_size=8, temperature=0.5
    )
    trainer.model.load_state_dict(
        AutoModelForCausalLM.from_pretrained(other_model_folder).state_dict()
    )
    (prompt,) = _prompts(1)
    ids = [_answer_ids(trainer._chat.tokenizer, row, None) for row in range(2)]
    completions = [Completion.from_text("", token_ids=tuple(answer)) for answer in ids]
    batch = trainer._padded([prompt, prompt], completions)
    trainer.model.eval()
    logps, entropies, ref_logps = trainer._measured(batch)

    start = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    before = trainer._chat.prompt_ids(prompt)
    for row, answer in enumerate(ids):
        at = slice(len(before) - 1, -1)
        for model, found in ((trainer.model, logps), (start, ref_logps)):
            with torch.no_grad():
                logits = model(torch.tensor([before + answer])).logits[0, at]
            expected = (logits / 0.5).log_softmax(-1)
            taken = expected[torch.arange(len(answer)), torch.tensor(answer)]
            torch.testing.assert_close(found[row, : len(answer)], taken, rtol=0, atol=1e-5)
            if found is logps:
                entropy = -(expected.exp() * expected).sum(-1)
                torch.testing.assert_close(
                    entropies[row, : len(answer)], entropy, rtol=0, atol=1e-4
                )


def test_a_checkpoint_waits_until_a_steps_rollouts_are_learned_from(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    trainer = _ours(
        tiny_model_folder,
        tmp_path / "out",
        prompts=6,
        per_device_train_batch_size=4,
        steps_per_generation=2,
        save_strategy="steps",
        save_steps=3,
        save_total_limit=None,
        max_steps=6,
    )
    trainer.train()
    saved = sorted(folder.name for folder in (tmp_path / "out").glob("checkpoint-*"))
    assert saved == ["checkpoint-4", "checkpoint-6"]


def test_sampling_takes_nothing_from_the_models_generation_file(tmp_path: Path) -> None:
    import json

    folder = build_tiny_model(tmp_path / "model")
    one = _ours(folder, tmp_path / "one", given=False, per_device_train_batch_size=4)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"suppress_tokens": list(range(100)), "do_sample": False, "num_beams": 2}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    two = _ours(folder, tmp_path / "two", given=False, per_device_train_batch_size=4)
    ids = [one._chat.prompt_ids(prompt) for prompt in _prompts(3)]
    sampled = one._sample(ids, 1)
    assert two._sample(ids, 1) == sampled
    assert one._sample(ids, 2) != sampled

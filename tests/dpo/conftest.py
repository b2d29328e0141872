"""Small datasets of preference pairs, written as the road writes them."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from curation.formats.trl import write_dataset
from curation.tiny import build_tiny_model
from dpo.train_dpo import DpoResult, train_dpo
from schemas.configs import DpoConfig, LoraConfig, ModelConfig
from schemas.records import Candidate, Completion, Message, Origin, PreferencePair, Prompt

WORDS = ("the", "cat", "house", "red", "small", "sky", "blue", "week", "days", "warm", "chair")

SMALL_LORA = LoraConfig(r=4, alpha=8)
MakeDataset = Callable[..., Path]


def make_pair(
    number: int, *, p_chosen: float | None = None, weight: float = 1.0, longest: int = 9
) -> PreferencePair:
    """Pair `number` of a fixed series; its text does not depend on its confidence."""
    rng = Random(number)
    text = " ".join(rng.choices(WORDS, k=rng.randint(2, 8)))
    prompt = Prompt(messages=(Message(role="user", content=f"Question {number}: {text}?"),))

    def candidate() -> Candidate:
        answer = " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))
        return Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(answer),
            origin=Origin(generator="import:test"),
        )

    return PreferencePair(
        prompt=prompt,
        chosen=candidate(),
        rejected=candidate(),
        p_chosen=p_chosen,
        weight=weight,
        margin=1.0,
        strategy="test",
    )


@pytest.fixture
def capped_model(tiny_model_folder: Path, tmp_path: Path) -> ModelConfig:
    """A model that caps its logits, of which TRL's own head knows nothing."""
    from transformers import AutoTokenizer, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    config = RecurrentGemmaConfig(
        num_hidden_layers=1,
        hidden_size=32,
        intermediate_size=96,
        num_attention_heads=2,
        lru_width=32,
        logits_soft_cap=0.05,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    RecurrentGemmaForCausalLM(config).save_pretrained(tmp_path / "capped")
    tokenizer.save_pretrained(tmp_path / "capped")
    return ModelConfig(path=str(tmp_path / "capped"))


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """A function from a number of pairs to a dataset's folder.

    With `confidence`, pair i has p_chosen 0.6 + 0.05 * (i % 8) and weight 0.5 + 0.25 * (i % 3).
    """

    def make(pairs: int, *, confidence: bool = False, name: str = "data", longest: int = 9) -> Path:
        folder = tmp_path / name
        made = (
            make_pair(
                number,
                p_chosen=0.6 + 0.05 * (number % 8) if confidence else None,
                weight=0.5 + 0.25 * (number % 3) if confidence else 1.0,
                longest=longest,
            )
            for number in range(pairs)
        )
        write_dataset(made, folder)
        return folder

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def other_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tiny model with the same tokenizer."""
    return build_tiny_model(tmp_path_factory.mktemp("other") / "model", seed=7)


@pytest.fixture
def train(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., DpoResult]:
    """`train_dpo` on the tiny model with a learning rate that moves it; keywords go to TRL."""

    def run(
        dataset: Path,
        *,
        out: str = "out",
        model: ModelConfig | None = None,
        seed: int = 1,
        max_length: int = 128,
        lora: LoraConfig | None = SMALL_LORA,
        confidence: bool = True,
        reference: str | None = None,
        progress: Any = None,
        **trainer: Any,
    ) -> DpoResult:
        keys = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "num_train_epochs": 1}
        return train_dpo(
            dataset,
            model or ModelConfig(path=str(tiny_model_folder)),
            DpoConfig(
                lora=lora,
                confidence=confidence,
                reference=reference,
                trainer={**keys, **trainer},
            ),
            out=tmp_path / out,
            seed=seed,
            max_length=max_length,
            progress=progress,
        )

    return run

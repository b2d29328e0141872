"""The reference: the SFT model with its own adapter, or another model; computed once."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curation.formats.trl import read_dataset
from curation.models import Policy, load_policy
from curation.tiny import CHATML, build_tiny_model
from dpo.logps import completion_logps
from dpo.tokens import PairTokens, tokenise_pairs
from dpo.train_dpo import DpoResult
from schemas.configs import LoraConfig, ModelConfig

MakeDataset = Callable[..., Path]


def _logps_alone(model: Any, pair: PairTokens) -> tuple[float, float]:
    """Log-probs of chosen and rejected from transformers' own logits, one row at a time."""
    sides = []
    for side in (pair.chosen_ids, pair.rejected_ids):
        ids = torch.tensor([pair.prompt_ids + side])
        mask = torch.tensor([[0] * len(pair.prompt_ids) + [1] * len(side)])
        with torch.no_grad():
            sides.append(completion_logps(model(ids).logits, ids, mask).item())
    return sides[0], sides[1]


def _reference_file(result: DpoResult) -> Path:
    key = result.facts["reference"]["key"]
    return result.policy.parent / "reference" / f"{key}.parquet"


@pytest.fixture
def sft_adapter(train: Any, make_dataset: MakeDataset) -> Path:
    """A trained adapter that stands for an SFT model's own."""
    result = train(make_dataset(8, name="sft"), out="sft", num_train_epochs=3)
    return Path(result.policy)


@pytest.mark.parametrize("lora", [LoraConfig(r=4, alpha=8), None], ids=["lora", "full"])
def test_the_reference_of_an_sft_model_with_an_adapter_has_that_adapter(
    lora: LoraConfig | None,
    train: Any,
    make_dataset: MakeDataset,
    sft_adapter: Path,
    tiny_model_folder: Path,
) -> None:
    dataset = make_dataset(8)
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(sft_adapter))
    result = train(dataset, model=model, lora=lora, num_train_epochs=2)

    assert result.steps[0].rewards_margin == pytest.approx(0, abs=1e-6)
    assert result.steps[0].loss == pytest.approx(math.log(2), abs=1e-6)
    assert result.steps[-1].rewards_margin != 0
    assert result.facts["reference"]["weights"] == load_policy(model).weights
    stored = pq.read_table(_reference_file(result)).to_pydict()
    sft = load_policy(model)
    for pair, logps in zip(
        tokenise_pairs(read_dataset(dataset)["train"], sft.chat, 128),
        zip(stored["ref_chosen_logps"], stored["ref_rejected_logps"], strict=True),
        strict=True,
    ):
        assert logps == pytest.approx(_logps_alone(sft.model, pair), abs=1e-4)
    if lora is None:
        assert load_policy(ModelConfig(path=str(result.policy)))
    else:
        assert load_policy(ModelConfig(path=str(tiny_model_folder), adapter=str(result.policy)))


def test_a_reference_without_the_sft_models_adapter_fails_the_run(
    train: Any,
    make_dataset: MakeDataset,
    sft_adapter: Path,
    tiny_model_folder: Path,
    tiny_policy: Policy,
) -> None:
    dataset = make_dataset(8)
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(sft_adapter))
    stored = _reference_file(train(dataset, model=model, max_steps=1))
    pairs = tokenise_pairs(read_dataset(dataset)["train"], tiny_policy.chat, 128)
    base = [_logps_alone(tiny_policy.model, pair) for pair in pairs]
    pq.write_table(
        pa.table(
            {
                "pair_id": [pair.pair_id for pair in pairs],
                "ref_chosen_logps": [logps[0] for logps in base],
                "ref_rejected_logps": [logps[1] for logps in base],
            }
        ),
        stored,
    )
    with pytest.raises(ValueError, match="policy does not start at its reference: pair 'pair-"):
        train(dataset, model=model, max_steps=1)


def test_a_separate_reference_is_honoured_with_lora(
    train: Any, make_dataset: MakeDataset, other_model_folder: Path, tiny_policy: Policy
) -> None:
    dataset = make_dataset(6)
    result = train(dataset, reference=str(other_model_folder), max_steps=1)
    other = load_policy(ModelConfig(path=str(other_model_folder)))
    stored = pq.read_table(_reference_file(result)).to_pydict()
    pairs = tokenise_pairs(read_dataset(dataset)["train"], tiny_policy.chat, 128)
    assert stored["pair_id"] == [pair.pair_id for pair in pairs]
    for pair, chosen, rejected in zip(
        pairs, stored["ref_chosen_logps"], stored["ref_rejected_logps"], strict=True
    ):
        assert (chosen, rejected) == pytest.approx(_logps_alone(other.model, pair), abs=1e-4)
        assert (chosen, rejected) != pytest.approx(_logps_alone(tiny_policy.model, pair), abs=1e-2)
    assert result.facts["reference"]["weights"] == other.weights


def test_a_reference_with_another_vocabulary_is_refused(
    train: Any, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    folder = build_tiny_model(tmp_path / "wider")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|extra|>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match="has another vocabulary"):
        train(make_dataset(4), reference=str(folder))


def test_reference_log_probs_are_computed_once(train: Any, make_dataset: MakeDataset) -> None:
    dataset = make_dataset(6)
    first = train(dataset)
    before = _reference_file(first).stat()
    heard: list[str] = []

    second = train(dataset, learning_rate=5e-4, progress=lambda what, *_: heard.append(what))

    assert first.facts["reference"]["cache_hit"] is False
    assert second.facts["reference"]["cache_hit"] is True
    assert second.facts["reference"]["key"] == first.facts["reference"]["key"]
    assert _reference_file(second).stat().st_mtime_ns == before.st_mtime_ns
    assert "reference log-probs" not in heard
    assert second.steps[0].loss == first.steps[0].loss


def test_another_template_model_precision_or_data_is_another_reference_key(
    train: Any,
    make_dataset: MakeDataset,
    tiny_model_folder: Path,
    other_model_folder: Path,
    tmp_path: Path,
) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("Be brief." + CHATML)
    small, more = make_dataset(4), make_dataset(5, name="more")
    runs = [
        train(small, max_steps=1),
        train(
            small,
            model=ModelConfig(path=str(tiny_model_folder), chat_template=template),
            max_steps=1,
        ),
        train(small, model=ModelConfig(path=str(other_model_folder)), max_steps=1),
        train(small, bf16=True, max_steps=1),
        train(more, max_steps=1),
    ]
    keys = [run.facts["reference"]["key"] for run in runs]
    assert len(set(keys)) == 5
    assert not any(run.facts["reference"]["cache_hit"] for run in runs)
    assert runs[3].facts["precision"] == "float32 autocast bf16"
    assert runs[3].steps[0].loss == pytest.approx(math.log(2), abs=1e-3)

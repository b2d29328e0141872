"""Our trainer against stock TRL: tokens, every loss, gradients, whole runs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.formats.trl import read_dataset
from curation.models import load_chat, load_policy
from dpo.dpo_args import LOSSES, check_trainer_keys, trainer_args
from dpo.pair_losses import NO_PAIR_LOSS, PAIR_LOSSES
from dpo.tokens import tokenise_pairs
from dpo.trl_adapters.pairs import PairTrainer
from schemas.configs import LoraConfig, ModelConfig

MakeDataset = Callable[..., Path]


def _stock_trainer(dataset: Path, model: Path, folder: Path, lora: bool, **keys: Any) -> Any:
    """TRL's own trainer on the same rows, with TRL's own tokenisation."""
    import peft
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = read_dataset(dataset)["train"]
    columns = ("prompt", "chosen", "rejected")
    chat = load_chat(ModelConfig(path=str(model)))
    defaults = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "num_train_epochs": 1}
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return DPOTrainer(
        model=str(model),
        args=DPOConfig(
            output_dir=str(folder),
            seed=1,
            data_seed=1,
            max_length=128,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **{**defaults, **keys},
        ),
        train_dataset=Dataset.from_list([{name: row[name] for name in columns} for row in rows]),
        processing_class=chat.tokenizer,
        peft_config=config if lora else None,
    )


def _our_trainer(
    dataset: Path,
    model: Path,
    folder: Path,
    *,
    reference: Path,
    confidence: bool = False,
    **keys: Any,
) -> PairTrainer:
    from transformers import AutoModelForCausalLM

    chat = load_chat(ModelConfig(path=str(model)))
    return PairTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        trainer_args(keys, folder=folder, seed=1, max_length=128, cpu=True, bf16=False),
        tokenise_pairs(read_dataset(dataset)["train"], chat, 128),
        chat.tokenizer,
        confidence=confidence,
        ref_model=AutoModelForCausalLM.from_pretrained(reference),
        starts_at_reference=False,
    )


def _refer_to(stock: Any, reference: Path) -> None:
    """Give stock TRL a reference other than the policy's start, asked anew for each batch."""
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    stock.ref_model = AutoModelForCausalLM.from_pretrained(reference).eval()
    add_fused_lm_head(stock.ref_model)


def _loss_of_first_batch(trainer: Any) -> torch.Tensor:
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    loss: torch.Tensor = trainer.compute_loss(trainer.model, batch)
    return loss


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_a_run_is_stock_trl_step_for_step(
    lora: bool, train: Any, make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    dataset = make_dataset(10)
    stock = _stock_trainer(dataset, tiny_model_folder, tmp_path / "stock", lora, num_train_epochs=2)
    stock.train()

    ours = train(dataset, lora=LoraConfig(r=4, alpha=8) if lora else None, num_train_epochs=2)

    logged = [entry for entry in stock.state.log_history if "loss" in entry]
    assert len(ours.steps) == len(logged) == 6
    for record, entry in zip(ours.steps, logged, strict=True):
        assert record.step == entry["step"]
        assert record.epoch == entry["epoch"]
        assert record.learning_rate == entry["learning_rate"]
        assert record.loss == pytest.approx(entry["loss"], abs=1e-6)
        assert record.grad_norm == pytest.approx(entry["grad_norm"], rel=1e-4)
        assert record.rewards_margin == pytest.approx(entry["rewards/margins"], abs=1e-5)
        assert record.rewards_accuracy == entry["rewards/accuracies"]
    trained = load_policy(
        ModelConfig(path=str(tiny_model_folder), adapter=str(ours.policy))
        if lora
        else ModelConfig(path=str(ours.policy))
    ).model.state_dict()
    for name, weight in stock.model.state_dict().items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-4, atol=1e-6)


def test_the_tokens_are_those_of_trl_for_a_sane_template(
    make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    dataset = make_dataset(6)
    stock = _stock_trainer(dataset, tiny_model_folder, tmp_path / "stock", lora=False)
    chat = load_chat(ModelConfig(path=str(tiny_model_folder)))

    pairs = tokenise_pairs(read_dataset(dataset)["train"], chat, 128)

    for pair, row in zip(pairs, stock.train_dataset, strict=True):
        assert pair.prompt_ids == row["prompt_ids"]
        assert pair.chosen_ids == row["chosen_ids"]
        assert pair.rejected_ids == row["rejected_ids"]


def test_full_confidence_has_the_loss_and_the_gradients_of_stock_trl(
    make_dataset: MakeDataset, tiny_model_folder: Path, other_model_folder: Path, tmp_path: Path
) -> None:
    dataset = make_dataset(4)
    found = {}
    for confidence in (True, False):
        trainer = _our_trainer(
            dataset,
            tiny_model_folder,
            tmp_path / str(confidence),
            confidence=confidence,
            reference=other_model_folder,
        )
        loss = _loss_of_first_batch(trainer)
        torch.autograd.backward(loss)
        found[confidence] = (
            loss.item(),
            {name: weight.grad for name, weight in trainer.model.named_parameters()},
        )

    (confident_loss, confident_grads), (stock_loss, stock_grads) = found[True], found[False]
    assert stock_loss != pytest.approx(math.log(2), abs=1e-3)
    assert confident_loss == pytest.approx(stock_loss, abs=1e-7)
    for name, grad in stock_grads.items():
        torch.testing.assert_close(confident_grads[name], grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_goes_by_trls_name_and_is_trls(
    loss: str,
    make_dataset: MakeDataset,
    tiny_model_folder: Path,
    other_model_folder: Path,
    tmp_path: Path,
) -> None:
    dataset = make_dataset(4)
    keys: dict[str, Any] = {
        "loss_type": loss,
        "label_smoothing": 0.1 if loss in ("exo_pair", "robust") else 0.0,
        "per_device_train_batch_size": 4,
    }
    check_trainer_keys(keys)
    stock = _stock_trainer(dataset, tiny_model_folder, tmp_path / "stock", lora=False, **keys)
    _refer_to(stock, other_model_folder)
    ours = _our_trainer(
        dataset, tiny_model_folder, tmp_path / "ours", reference=other_model_folder, **keys
    )

    assert _loss_of_first_batch(ours).item() == pytest.approx(
        _loss_of_first_batch(stock).item(), abs=1e-6
    )


_WITH_CONFIDENCE: dict[str, dict[str, Any]] = {
    **{
        loss: {
            "loss_type": loss,
            "label_smoothing": 0.1 if loss in ("exo_pair", "robust") else 0.0,
        }
        for loss in PAIR_LOSSES
    },
    "a combination": {
        "loss_type": ["sigmoid", "bco_pair", "ipo", "exo_pair"],
        "loss_weights": [0.8, 0.2, 3.0, 1.0],
        "label_smoothing": 0.05,
    },
}


@pytest.mark.parametrize("keys", _WITH_CONFIDENCE.values(), ids=_WITH_CONFIDENCE)
def test_pairs_that_are_sure_have_the_loss_and_the_gradients_of_stock_trl(
    keys: dict[str, Any],
    make_dataset: MakeDataset,
    tiny_model_folder: Path,
    other_model_folder: Path,
    tmp_path: Path,
) -> None:
    dataset = make_dataset(4)
    keys = {**keys, "beta": 0.7, "per_device_train_batch_size": 4}
    stock = _stock_trainer(dataset, tiny_model_folder, tmp_path / "stock", lora=False, **keys)
    _refer_to(stock, other_model_folder)
    ours = _our_trainer(
        dataset,
        tiny_model_folder,
        tmp_path / "ours",
        reference=other_model_folder,
        confidence=True,
        **keys,
    )
    losses = [_loss_of_first_batch(trainer) for trainer in (ours, stock)]
    torch.autograd.backward(losses)

    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5, abs=1e-6)
    expected = dict(stock.model.named_parameters())
    for name, weight in ours.model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("keys", _WITH_CONFIDENCE.values(), ids=_WITH_CONFIDENCE)
def test_unsure_pairs_have_stock_trls_losses_of_both_labels_mixed(
    keys: dict[str, Any],
    make_dataset: MakeDataset,
    tiny_model_folder: Path,
    other_model_folder: Path,
    tmp_path: Path,
) -> None:
    # Stock TRL is asked for one pair at a time, as labelled and with its sides swapped.
    dataset = make_dataset(3, confidence=True)
    keys = {**keys, "beta": 0.3, "per_device_train_batch_size": 3}
    stock = _stock_trainer(dataset, tiny_model_folder, tmp_path / "stock", lora=False, **keys)
    _refer_to(stock, other_model_folder)
    ours = _our_trainer(
        dataset,
        tiny_model_folder,
        tmp_path / "ours",
        reference=other_model_folder,
        confidence=True,
        **keys,
    )

    def stock_loss(row: dict[str, Any]) -> float:
        inputs = stock._prepare_inputs(stock.data_collator([row]))
        with torch.no_grad():
            return float(stock.compute_loss(stock.model, inputs))

    expected = []
    for pair, row in zip(read_dataset(dataset)["train"], stock.train_dataset, strict=True):
        swapped = {**row, "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]}
        p_chosen, weight = pair["p_chosen"], pair["weight"]
        assert p_chosen < 1
        expected.append(
            weight * (p_chosen * stock_loss(row) + (1 - p_chosen) * stock_loss(swapped))
        )
    found = _loss_of_first_batch(ours).item()
    assert found == pytest.approx(sum(expected) / 3, rel=1e-5, abs=1e-6)


def test_each_loss_of_trl_takes_confidence_or_has_a_reason_not_to() -> None:
    assert sorted([*PAIR_LOSSES, *NO_PAIR_LOSS]) == sorted(LOSSES)

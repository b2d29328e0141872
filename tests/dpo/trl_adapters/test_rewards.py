"""Our reward trainer against stock TRL: tokens, losses, gradients, whole runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from curation.formats.trl import read_dataset
from curation.models import load_chat
from dpo.reward_args import trainer_args
from dpo.reward_rows import RewardRow, read_comparisons, tokenise_comparisons
from dpo.reward_start import load_reward_start
from dpo.trl_adapters.rewards import RewardPairTrainer, RewardStep
from schemas.configs import LoraConfig, ModelConfig

MakeDataset = Callable[..., Path]
LORA = LoraConfig(r=4, alpha=8)
KEYS = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "num_train_epochs": 1}


def rows_of(dataset: Path, model: Path) -> list[RewardRow]:
    chat = load_chat(ModelConfig(path=str(model)))
    return tokenise_comparisons(read_comparisons(read_dataset(dataset)["train"]), chat, 128).kept


def our_trainer(
    rows: Sequence[RewardRow], model: Path, folder: Path, *, lora: bool = False, **keys: Any
) -> tuple[RewardPairTrainer, list[RewardStep]]:
    config = ModelConfig(path=str(model))
    network, peft_config = load_reward_start(config, LORA if lora else None, seed=1)
    steps: list[RewardStep] = []
    trainer = RewardPairTrainer(
        network,
        trainer_args({**KEYS, **keys}, folder=folder, seed=1, max_length=128, cpu=True, bf16=False),
        rows,
        load_chat(config).tokenizer,
        peft_config=peft_config,
        on_step=lambda record, total: steps.append(record),
    )
    return trainer, steps


def stock_trainer(
    dataset: Path, model: Path, folder: Path, *, lora: bool = False, **keys: Any
) -> Any:
    """TRL's own trainer on the same rows, with TRL's own tokenisation, from the same head."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    config = ModelConfig(path=str(model))
    network, peft_config = load_reward_start(config, LORA if lora else None, seed=1)
    rows = read_dataset(dataset)["train"]
    columns = ("prompt", "chosen", "rejected")
    return RewardTrainer(
        model=network,
        args=RewardConfig(
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
            **{**KEYS, **keys},
        ),
        train_dataset=Dataset.from_list([{name: row[name] for name in columns} for row in rows]),
        processing_class=load_chat(config).tokenizer,
        peft_config=peft_config,
    )


def first_loss(trainer: RewardPairTrainer) -> torch.Tensor:
    trainer.model.train()
    return trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("centre", [None, 0.3])
def test_a_run_at_full_confidence_is_stock_trl_step_for_step(
    lora: bool,
    centre: float | None,
    make_dataset: MakeDataset,
    tiny_model_folder: Path,
    tmp_path: Path,
) -> None:
    dataset = make_dataset(10)
    keys = {"num_train_epochs": 2, "center_rewards_coefficient": centre}
    stock = stock_trainer(dataset, tiny_model_folder, tmp_path / "stock", lora=lora, **keys)
    stock.train()

    rows = rows_of(dataset, tiny_model_folder)
    assert all(row.margin == 1 for row in rows)
    ours, steps = our_trainer(
        [row._replace(margin=0.0) for row in rows],
        tiny_model_folder,
        tmp_path / "ours",
        lora=lora,
        save_strategy="no",
        **keys,
    )
    ours.train()

    logged = [entry for entry in stock.state.log_history if "loss" in entry]
    assert len(steps) == len(logged) == 6
    for record, entry in zip(steps, logged, strict=True):
        assert record.step == entry["step"]
        assert record.epoch == entry["epoch"]
        assert record.learning_rate == entry["learning_rate"]
        assert record.loss == pytest.approx(entry["loss"], abs=1e-6)
        assert record.grad_norm == pytest.approx(entry["grad_norm"], rel=1e-4)
        assert record.rewards_margin == pytest.approx(entry["margin"], abs=1e-6)
        assert record.rewards_mean == pytest.approx(entry["mean_reward"], abs=1e-6)
        assert record.rewards_accuracy == entry["accuracy"]
    trained = ours.model.state_dict()
    for name, weight in stock.model.state_dict().items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-4, atol=1e-6)


def test_the_tokens_are_those_of_trl_for_a_sane_template(
    make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    dataset = make_dataset(6)
    stock = stock_trainer(dataset, tiny_model_folder, tmp_path / "stock")
    rows = rows_of(dataset, tiny_model_folder)
    for row, theirs in zip(rows, stock.train_dataset, strict=True):
        assert row.chosen_ids == theirs["chosen_ids"]
        assert row.rejected_ids == theirs["rejected_ids"]


def test_the_loss_is_worked_out_from_each_rows_own_score(
    make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    rows = [
        row._replace(margin=0.4 * number)
        for number, row in enumerate(rows_of(make_dataset(4, confidence=True), tiny_model_folder))
    ]
    trainer, _ = our_trainer(rows, tiny_model_folder, tmp_path / "ours")

    network = trainer.model.eval()
    network.config.pad_token_id = None
    expected = []
    with torch.no_grad():
        for row in rows:
            chosen, rejected = (
                network(input_ids=torch.tensor([ids])).logits[0, 0]
                for ids in (row.chosen_ids, row.rejected_ids)
            )
            right = -logsigmoid(chosen - rejected - row.margin)
            wrong = -logsigmoid(rejected - chosen - row.margin)
            expected.append(row.weight * (row.p_chosen * right + (1 - row.p_chosen) * wrong))
    network.config.pad_token_id = trainer.processing_class.pad_token_id

    assert {row.p_chosen for row in rows} == {0.6, 0.65, 0.7, 0.75}
    assert first_loss(trainer).item() == pytest.approx(
        torch.stack(expected).mean().item(), abs=1e-6
    )


def test_centring_pulls_the_sum_of_a_pairs_scores_to_zero(
    make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    rows = rows_of(make_dataset(8), tiny_model_folder)

    def mean_after(centre: float | None) -> float:
        trainer, steps = our_trainer(
            rows,
            tiny_model_folder,
            tmp_path / str(centre),
            num_train_epochs=12,
            learning_rate=1e-2,
            save_strategy="no",
            center_rewards_coefficient=centre,
        )
        with torch.no_grad():
            trainer.model.score.weight += 0.05
        trainer.train()
        return abs(steps[-1].rewards_mean)

    assert mean_after(1.0) < mean_after(None) / 2


def test_accumulated_micro_batches_are_one_batch(
    make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    # 11 pairs, so that the last step of the epoch is short in both.
    rows = rows_of(make_dataset(11, confidence=True), tiny_model_folder)
    runs = []
    for batch in (8, 2):
        trainer, steps = our_trainer(
            rows,
            tiny_model_folder,
            tmp_path / str(batch),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=8 // batch,
            save_strategy="no",
            num_train_epochs=2,
        )
        trainer.train()
        runs.append(steps)
    whole, parts = runs
    assert [len(record.pair_ids) for record in whole] == [8, 3, 8, 3]
    assert sorted(whole[0].pair_ids + whole[1].pair_ids) == sorted(row.pair_id for row in rows)
    assert whole[0].pair_ids != whole[2].pair_ids
    for one, other in zip(whole, parts, strict=True):
        assert one.pair_ids == other.pair_ids
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert one.grad_norm == pytest.approx(other.grad_norm, abs=1e-4)
        assert one.rewards_margin == pytest.approx(other.rewards_margin, abs=1e-6)

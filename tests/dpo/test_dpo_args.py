"""TRL's keys: typos, keys of other versions, keys that are ours, values that TRL refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dpo.dpo_args import LOSSES, check_trainer_keys, trainer_args
from dpo.train_dpo import check_trainer
from schemas.configs import ModelConfig

MakeDataset = Callable[..., Path]


def test_a_typo_in_a_trainer_key_names_the_nearest_and_trls_version() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'betta'; did you mean 'beta'\? \(TRL 1\.16"):
        check_trainer_keys({"betta": 0.1})


def test_a_key_of_another_trl_version_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"TRL 1\.16\S* has no DPOConfig key 'max_prompt_tokens'"):
        check_trainer_keys({"max_prompt_tokens": 512})


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("output_dir", "the stage's own folder"),
        ("seed", "the run's `seed`"),
        ("data_seed", "the run's `seed`"),
        ("max_length", "validate.max_length"),
        ("truncation_mode", "keep_start"),
        ("precompute_ref_log_probs", "always precomputed"),
        ("dataloader_drop_last", "plans the batches"),
        ("deepspeed", "data-parallel"),
        ("save_only_model", "optimiser"),
        ("pad_token", "any token pads"),
        ("padding_free", "pads all the same"),
        ("label_smoothing_factor", "do not read it"),
        ("dataset_num_proc", "tokenised"),
    ],
)
def test_a_key_that_pairwright_sets_is_refused_with_the_reason(key: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"dpo.trainer.{key} cannot be set: .*{reason}"):
        check_trainer_keys({key: None})


def test_a_loss_that_trl_does_not_know_is_refused_before_any_weights_load() -> None:
    with pytest.raises(ValueError, match=r"has no loss 'sigmiod'; did you mean sigmoid\?"):
        check_trainer_keys({"loss_type": ["sft", "sigmiod"]})


def test_smoothing_that_trl_would_ignore_is_refused() -> None:
    with pytest.raises(ValueError, match="label_smoothing does nothing to the loss sigmoid"):
        check_trainer_keys({"label_smoothing": 0.1})
    check_trainer_keys({"label_smoothing": 0.1, "loss_type": "robust"})


def test_the_names_of_the_losses_are_those_that_trl_lists() -> None:
    from dataclasses import fields

    from trl import DPOConfig

    (loss_type,) = [field for field in fields(DPOConfig) if field.name == "loss_type"]
    listed = loss_type.metadata["help"]
    assert all(f"`'{name}'`" in listed for name in LOSSES)
    assert listed.count("`'") == len(LOSSES)


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path: Path) -> None:
    keys = {"learning_rate": "1e-4", "beta": "0.2"}
    args = trainer_args(keys, folder=tmp_path, seed=3, max_length=64, cpu=True, bf16=False)
    assert (args.learning_rate, args.beta, args.seed, args.data_seed) == (1e-4, 0.2, 3, 3)
    with pytest.raises(ValueError, match=r"dpo\.trainer\.beta is 'low'; expected a number"):
        trainer_args({"beta": "low"}, folder=tmp_path, seed=3, max_length=64, cpu=True, bf16=False)


def test_what_trl_refuses_is_one_plain_sentence(tmp_path: Path) -> None:
    keys = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}
    with pytest.raises(ValueError, match=r"dpo\.trainer: TRL refuses a value: .*same length"):
        trainer_args(keys, folder=tmp_path, seed=0, max_length=64, cpu=True, bf16=False)


@pytest.mark.parametrize("nothing", [None, []])
def test_no_loss_at_all_is_refused(nothing: object) -> None:
    with pytest.raises(ValueError, match="loss_type is empty"):
        check_trainer_keys({"loss_type": nothing})


@pytest.mark.parametrize(
    ("trainer", "complaint"),
    [
        ({"beta": 0}, "beta is 0; expected more than 0"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected a number"),
        ({"lr_scheduler_type": "cosinus"}, "TRL refuses a value"),
        (
            {"loss_type": "robust", "label_smoothing": 0.5},
            "label_smoothing is 0.5; expected from 0",
        ),
        ({"loss_type": "exo_pair"}, "exo_pair, which needs a label_smoothing above 0"),
        ({"loss_type": "discopop", "discopop_tau": 0}, "discopop_tau is 0; expected more than 0"),
        ({"ld_alpha": 2}, "ld_alpha is 2; expected between 0 and 1"),
        ({"optim": "adamw_bnb_8bit"}, "optim: You need to install `bitsandbytes`"),
        ({"use_liger_kernel": True}, "use_liger_kernel needs the package liger-kernel"),
        ({"report_to": "wandb"}, "report_to names wandb, which is not installed"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_any_weights_load(
    trainer: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_trainer(trainer, ModelConfig(path="not-there", device="cpu"))

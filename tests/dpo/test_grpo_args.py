"""TRL's GRPO keys: typos, keys that are ours, values that TRL refuses or would refuse too late."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dpo.grpo_args import (
    LOSSES,
    check_trainer_keys,
    prompts_a_step,
    trainer_args,
    updates_a_step,
)
from dpo.train_grpo import check_trainer
from schemas.configs import ModelConfig


def _args(**keys: Any) -> Any:
    return trainer_args(keys, folder=Path(), seed=3, cpu=True, bf16=False)


def test_a_typo_in_a_trainer_key_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"grpo.trainer: unknown key 'num_generation'; did you"):
        check_trainer_keys({"num_generation": 4})


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("many", "grpo.trainer.max_steps is 'many'; expected a number"),
        ("2.5", "grpo.trainer.max_steps is '2.5'; expected a whole number"),
        (2.5, "grpo.trainer.max_steps is '2.5'; expected a whole number"),
        ([8], r"grpo.trainer.max_steps is \[8\]; expected a number"),
        (True, "grpo.trainer.max_steps is True; expected a number"),
        (None, "grpo.trainer.max_steps is null; expected a number, or leave it out"),
    ],
)
def test_what_is_no_number_where_trl_takes_one_is_refused(value: object, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        _args(max_steps=value)
    for hundred in ("1e2", 100.0):
        args = _args(max_steps=hundred)
        assert (args.max_steps, type(args.max_steps)) == (100, int)


def test_a_quoted_false_is_refused_as_any_text_would_count_as_true() -> None:
    for key in ("bf16", "gradient_checkpointing", "activation_checkpointing", "shuffle_dataset"):
        with pytest.raises(ValueError, match=f"^grpo.trainer.{key} is 'false'; expected true or"):
            _args(**{key: "false"})


def test_a_bare_no_which_yaml_reads_as_false_saves_no_checkpoint() -> None:
    assert _args(save_strategy=False).save_strategy == "no"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("seed", "the run's `seed`"),
        ("reward_weights", "beside it in grpo.rewards"),
        ("multi_objective_aggregation", "summed by weight"),
        ("generation_kwargs", "min_p"),
        ("use_vllm", "sampled with transformers"),
        ("vllm_mode", "sampled with transformers"),
        ("log_completions", "rollouts.jsonl"),
        ("sync_ref_model", "SFT model"),
        ("dataloader_drop_last", "plans the batches"),
        ("eval_on_start", "the evaluate stage measures"),
        ("metric_for_best_model", "the evaluate stage measures"),
        ("per_device_eval_batch_size", "the evaluate stage measures"),
        ("label_smoothing_factor", "does not read it"),
        ("hub_token", "HF_TOKEN in the environment"),
    ],
)
def test_a_key_that_pairwright_sets_is_refused_with_the_reason(key: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"grpo.trainer.{key} cannot be set: .*{reason}"):
        check_trainer_keys({key: None})


@pytest.mark.parametrize(
    ("key", "wrong", "near"),
    [
        ("loss_type", "dappo", "dapo"),
        ("scale_rewards", "groups", "group"),
        ("importance_sampling_level", "tokens", "token"),
    ],
)
def test_a_name_that_trl_refuses_only_at_the_first_step_is_refused_before(
    key: str, wrong: str, near: str
) -> None:
    with pytest.raises(ValueError, match=f"grpo.trainer.{key} is '{wrong}'; did you mean {near}"):
        check_trainer_keys({key: wrong})
    check_trainer_keys({key: near})


def test_scale_rewards_may_be_a_boolean_as_in_trl() -> None:
    for value, meaning in ((True, "group"), (False, "none")):
        check_trainer_keys({"scale_rewards": value})
        assert _args(scale_rewards=value).scale_rewards == meaning


def test_the_names_of_the_losses_are_those_that_trl_documents() -> None:
    from trl import GRPOConfig

    (loss_type,) = [field for field in fields(GRPOConfig) if field.name == "loss_type"]
    for name in LOSSES:
        assert f"'{name}'" in loss_type.metadata["help"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"beta": -0.1}, r"grpo.trainer.beta is -0.1; expected 0 or more"),
        ({"temperature": 0.0}, r"temperature is 0.0; expected more than 0"),
        ({"num_generations": 1}, r"at least 2 generations"),
        ({"num_generations": 0}, r"grpo.trainer: TRL refuses a value"),
        ({"num_generations": 3}, r"must be divisible by num_generations"),
        ({"num_generations": None}, r"TRL refuses a value"),
        ({"learning_rate": "fast"}, r"learning_rate is 'fast'; expected a number"),
        ({"learning_rate": -1.0}, r"learning_rate is -1.0; expected 0 or more"),
        ({"max_steps": 0}, r"max_steps is 0, so that nothing is trained"),
        ({"num_train_epochs": 0}, r"num_train_epochs is 0, so that nothing is trained"),
        ({"per_device_train_batch_size": 0}, r"per_device_train_batch_size is 0; expected 1 or"),
        ({"gradient_accumulation_steps": 0}, r"gradient_accumulation_steps is 0; expected 1 or"),
        ({"save_strategy": "best"}, r"save_strategy cannot be 'best'"),
        ({"epsilon": -1}, r"epsilon is -1; expected 0 or more"),
        ({"top_p": 0}, r"grpo.trainer.top_p is 0: Input should be greater than 0"),
        ({"top_k": -1}, r"grpo.trainer.top_k is -1: Input should be greater"),
        ({"max_completion_length": None}, r"max_completion_length is None: Input should be a"),
    ],
)
def test_a_value_that_makes_no_training_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _args(**keys)


def test_updates_that_span_the_rollouts_of_two_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of gradient_accumulation_steps 4"):
        _args(steps_per_generation=2, gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match="max_steps is 3 updates; expected a multiple of 2"):
        _args(num_iterations=2, max_steps=3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss_type", "bnpo"),
        ("entropy_coef", 0.01),
        ("use_adaptive_entropy", True),
        ("top_entropy_quantile", 0.5),
    ],
)
def test_what_averages_over_a_batch_by_itself_needs_one_batch_an_update(
    key: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"grpo.trainer.{key} .* an average over each batch"):
        _args(**{key: value}, gradient_accumulation_steps=2)
    assert getattr(_args(**{key: value}), key) == value


def test_a_step_is_counted_in_prompts_and_updates() -> None:
    args = _args(
        per_device_train_batch_size=4,
        num_generations=2,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
        num_iterations=3,
    )
    assert prompts_a_step(args) == 8
    assert updates_a_step(args) == 6


def test_check_trainer_builds_trls_arguments_for_the_models_device(
    tiny_model_folder: Path,
) -> None:
    model = ModelConfig(path=str(tiny_model_folder), device="cpu")
    check_trainer({"num_generations": 4, "learning_rate": "1e-5", "bf16": False}, model)
    with pytest.raises(ValueError, match="TRL refuses a value"):
        check_trainer({"num_generations": 3}, model)

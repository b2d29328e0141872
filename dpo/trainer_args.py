"""TRL's own DPOConfig keys: which are the user's, which are ours, and the arguments they make."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

from trl import DPOConfig

from schemas.configs import unknown_key

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
"""The names that TRL 1.16 gives its losses; TRL itself would refuse another only at step 1."""

_SMOOTHED = {"exo_pair", "robust", "aot", "aot_unpaired"}
"""The losses that read `label_smoothing`; TRL ignores it beside any other, sigmoid included."""

_ORDER = "pairwright plans the batches, alike for any number of processes"
_RESERVED = {
    "output_dir": "it is the stage's own folder",
    "seed": "it is the run's `seed`",
    "data_seed": "it is the run's `seed`",
    "max_length": "it is `validate.max_length`, so that gate and trainer agree",
    "truncation_mode": "the gate's checks hold for keep_start alone",
    "use_cpu": "it is `model.device`",
    "model_init_kwargs": "`model` says how the model is loaded",
    "trust_remote_code": "`model` says how the model is loaded",
    "precompute_ref_log_probs": "reference log-probs are always precomputed and cached",
    "sync_ref_model": "the reference is precomputed, so it cannot move",
    "ref_model_mixup_alpha": "the reference is precomputed, so it cannot move",
    "ref_model_sync_steps": "the reference is precomputed, so it cannot move",
    "resume_from_checkpoint": "a run resumes by itself from its last whole checkpoint",
    "save_only_model": "a checkpoint without its optimiser could not be gone on from",
    "ignore_data_skip": "a run resumes by itself from its last whole checkpoint",
    "logging_strategy": "each step goes to the step log",
    "logging_steps": "each step goes to the step log",
    "logging_nan_inf_filter": "a loss that is not finite ends the run",
    "remove_unused_columns": "the columns are pairwright's own",
    "eval_strategy": "the evaluate stage measures on held-out prompts",
    "load_best_model_at_end": "the evaluate stage measures on held-out prompts",
    "dataloader_drop_last": _ORDER,
    "train_sampling_strategy": _ORDER,
    "accelerator_config": _ORDER,
    "auto_find_batch_size": _ORDER,
    "fsdp": "training is data-parallel: one whole model a process",
    "fsdp_config": "training is data-parallel: one whole model a process",
    "deepspeed": "training is data-parallel: one whole model a process",
    "parallelism_config": "training is data-parallel: one whole model a process",
}


def check_trainer_keys(trainer: Mapping[str, Any]) -> None:
    """Return if every key is one of TRL's `DPOConfig` and free to set.

    Raises:
        ValueError: a key is unknown to the installed TRL, or pairwright sets it, or it would do
            nothing, or a loss has a name that TRL does not know.
    """
    known = {field.name for field in fields(DPOConfig) if field.init}
    for key in map(str, trainer):
        if key in _RESERVED:
            raise ValueError(f"dpo.trainer.{key} cannot be set: {_RESERVED[key]}")
        if key not in known:
            version = metadata.version("trl")
            raise ValueError(
                f"dpo.trainer: {unknown_key(key, known)} (TRL {version} takes DPOConfig's keys)"
                if difflib.get_close_matches(key, known, n=1)
                else f"dpo.trainer: TRL {version} has no DPOConfig key '{key}'"
            )
    losses = loss_types(trainer)
    if not losses:
        raise ValueError("dpo.trainer.loss_type is empty; leave it out for TRL's default, sigmoid")
    if trainer.get("label_smoothing") and not _SMOOTHED & set(losses):
        raise ValueError(
            f"dpo.trainer.label_smoothing does nothing to the loss {', '.join(losses)} in TRL "
            "1.16; a pair's p_chosen says how sure its label is, or use the loss robust"
        )
    for loss in losses:
        if loss not in LOSSES:
            near = difflib.get_close_matches(str(loss), LOSSES, n=1) or [", ".join(LOSSES)]
            raise ValueError(
                f"dpo.trainer.loss_type: TRL has no loss '{loss}'; did you mean {near[0]}?"
            )


def loss_types(trainer: Mapping[str, Any]) -> list[str]:
    """The losses that a `trainer:` mapping asks for; TRL's default is sigmoid."""
    asked = trainer.get("loss_type", ["sigmoid"])
    return list(asked) if isinstance(asked, list | tuple) else [asked] if asked else []


def trainer_args(
    trainer: Mapping[str, Any], *, folder: Path, seed: int, max_length: int, cpu: bool, bf16: bool
) -> DPOConfig:
    """TRL's arguments: the user's keys over our defaults, and what pairwright itself sets.

    Building them joins the process group where a launcher started several processes.

    Raises:
        ValueError: TRL refuses a value.
    """
    defaults = {
        "bf16": bf16 and not trainer.get("fp16"),
        "activation_checkpointing": trainer.get("gradient_checkpointing", not cpu),
        "save_steps": 0.25,
        "save_total_limit": 2,
        "disable_tqdm": True,
        "dataloader_pin_memory": not cpu,
    }
    own = {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "max_length": max_length,
        "use_cpu": cpu,
        "precompute_ref_log_probs": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
    }
    try:
        args = DPOConfig(**{**defaults, **_as_typed(trainer), **own})
        if not args.beta > 0:
            raise ValueError(f"beta is {args.beta}; expected more than 0")
        return args
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"dpo.trainer: TRL refuses a value: {reason}") from error


def _as_typed(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with numbers where TRL wants them: YAML reads `1e-4` as text."""
    floats = {field.name for field in fields(DPOConfig) if "float" in str(field.type)}
    typed = dict(trainer)
    for key in floats & typed.keys():
        if isinstance(typed[key], str):
            try:
                typed[key] = float(typed[key])
            except ValueError:
                raise ValueError(
                    f"dpo.trainer.{key} is '{typed[key]}'; expected a number"
                ) from None
    return typed

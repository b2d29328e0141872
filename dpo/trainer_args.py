"""The `trainer:` mappings: TRL's own keys, which are the user's, which are ours, what they make."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from schemas.config_files import unknown_key

_ORDER = "pairwright plans the batches, alike for any number of processes"
RESERVED = {
    "output_dir": "it is the stage's own folder",
    "seed": "it is the run's `seed`",
    "data_seed": "it is the run's `seed`",
    "use_cpu": "it is `model.device`",
    "model_init_kwargs": "`model` says how the model is loaded",
    "trust_remote_code": "`model` says how the model is loaded",
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
"""Keys that no `trainer:` mapping may hold, and why."""

_NO_NUMBERS = {"str", "bool", "list", "dict", "tuple"}
"""Types of keys that take something else than one number, too."""

A = TypeVar("A")


def check_keys(
    trainer: Mapping[str, Any], section: str, args_class: type[Any], reserved: Mapping[str, str]
) -> None:
    """Return if every key of `section.trainer` is one of TRL's and free to set.

    Raises:
        ValueError: a key is unknown to the installed TRL, or pairwright sets it.
    """
    known = {field.name for field in fields(args_class) if field.init}
    for key in map(str, trainer):
        if key in reserved:
            raise ValueError(f"{section}.trainer.{key} cannot be set: {reserved[key]}")
        if key not in known:
            name, version = args_class.__name__, metadata.version("trl")
            raise ValueError(
                f"{section}.trainer: {unknown_key(key, known)} (TRL {version} takes {name}'s keys)"
                if difflib.get_close_matches(key, known, n=1)
                else f"{section}.trainer: TRL {version} has no {name} key '{key}'"
            )


def build_args(
    trainer: Mapping[str, Any],
    section: str,
    args_class: type[A],
    *,
    folder: Path,
    seed: int,
    cpu: bool,
    bf16: bool,
    own: Mapping[str, Any],
) -> A:
    """TRL's arguments: the user's keys over our defaults, and what pairwright itself sets (`own`).

    Building them joins the process group where a launcher started several processes.

    Raises:
        ValueError: TRL refuses a value.
    """
    known = {field.name for field in fields(args_class)}  # type: ignore[arg-type]
    defaults = {
        "bf16": bf16 and not trainer.get("fp16"),
        "activation_checkpointing": trainer.get("gradient_checkpointing", not cpu),
        "save_steps": 0.25,
        "save_total_limit": 2,
        "disable_tqdm": True,
        "dataloader_pin_memory": not cpu,
    }
    fixed = {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "use_cpu": cpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
    }
    defaults = {key: value for key, value in defaults.items() if key in known}
    typed = _as_typed(trainer, section, args_class)
    try:
        return args_class(**{**defaults, **typed, **fixed, **own})
    except (ArithmeticError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{section}.trainer: TRL refuses a value: {reason}") from error


def _as_typed(trainer: Mapping[str, Any], section: str, args_class: type[Any]) -> dict[str, Any]:
    """The mapping with numbers where TRL wants them: YAML reads `1e-4` as text.

    Raises:
        ValueError: what stands there is no number.
    """
    typed = dict(trainer)
    for field in fields(args_class):
        value, kinds = typed.get(field.name), set(re.findall(r"\w+", str(field.type)))
        only_numbers = kinds & {"int", "float"} and not kinds & _NO_NUMBERS
        if isinstance(value, str) and ("float" in kinds or only_numbers):
            typed[field.name] = _as_number(
                value, "float" in kinds, f"{section}.trainer.{field.name}"
            )
        elif isinstance(value, list | tuple | dict) and only_numbers:
            raise ValueError(f"{section}.trainer.{field.name} is {value}; expected a number")
    return typed


def _as_number(text: str, may_be_fraction: bool, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{where} is '{text}'; expected a number") from None
    if may_be_fraction:
        return number
    if not number.is_integer():
        raise ValueError(f"{where} is '{text}'; expected a whole number")
    return int(number)

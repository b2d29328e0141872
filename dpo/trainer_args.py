"""The `trainer:` mappings: TRL's own keys, which are the user's, which are ours, what they make."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from schemas.config_files import unknown_key

_EVALUATED = "the evaluate stage measures on held-out prompts"
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
    **dict.fromkeys(
        ("do_eval", "do_predict", "eval_delay", "eval_on_start", "eval_steps", "eval_strategy"),
        _EVALUATED,
    ),
    **dict.fromkeys(
        ("greater_is_better", "load_best_model_at_end", "metric_for_best_model"), _EVALUATED
    ),
    "hub_token": "the config is stored in the run, so that a secret has no place in it; set "
    "HF_TOKEN in the environment",
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
        args = args_class(**{**defaults, **typed, **fixed, **own})
    except (ArithmeticError, ImportError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{section}.trainer: TRL refuses a value: {reason}") from error
    _check_trains(args, section)
    _check_installed(args, section)
    return args


def _check_trains(args: Any, section: str) -> None:
    """Refuse values that TRL takes and that leave it without a step, or that fail only there."""
    for key in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if getattr(args, key) < 1:
            raise ValueError(f"{section}.trainer.{key} is {getattr(args, key)}; expected 1 or more")
    if not args.learning_rate >= 0:
        raise ValueError(
            f"{section}.trainer.learning_rate is {args.learning_rate}; expected 0 or more"
        )
    epochs = args.num_train_epochs
    if args.max_steps == 0 or (args.max_steps < 0 and not epochs > 0):
        key, found = ("max_steps", 0) if args.max_steps == 0 else ("num_train_epochs", epochs)
        raise ValueError(f"{section}.trainer.{key} is {found}, so that nothing is trained")
    if args.save_strategy == "best":
        raise ValueError(f"{section}.trainer.save_strategy cannot be 'best': {_EVALUATED}")


def _check_installed(args: Any, section: str) -> None:
    """Refuse, before weights load, what needs a package that is missing."""
    from transformers import Trainer
    from transformers.integrations import get_available_reporting_integrations
    from transformers.utils import is_liger_kernel_available

    if args.use_liger_kernel and not is_liger_kernel_available():
        raise ValueError(f"{section}.trainer.use_liger_kernel needs the package liger-kernel")

    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except ImportError as error:
        raise ValueError(f"{section}.trainer.optim: {' '.join(str(error).split())}") from error
    except ValueError:
        pass  # it may be in want of the model
    if missing := sorted(set(args.report_to) - set(get_available_reporting_integrations())):
        raise ValueError(
            f"{section}.trainer.report_to names {missing[0]}, which is not installed; install it, "
            "or leave report_to out"
        )


def _as_typed(trainer: Mapping[str, Any], section: str, args_class: type[Any]) -> dict[str, Any]:
    """The mapping with the types that TRL wants and does not check.

    YAML reads `1e-4` as text and a bare `no` as false.

    Raises:
        ValueError: what stands there is no number, or neither true nor false.
    """
    typed = dict(trainer)
    if typed.get("save_strategy") is False:
        typed["save_strategy"] = "no"
    for field in fields(args_class):
        value, kinds = typed.get(field.name), set(re.findall(r"\w+", str(field.type)))
        where = f"{section}.trainer.{field.name}"
        only_numbers = kinds & {"int", "float"} and not kinds & _NO_NUMBERS
        if only_numbers and isinstance(value, bool | list | tuple | dict):
            raise ValueError(f"{where} is {value}; expected a number")
        if only_numbers and "None" not in kinds and field.name in typed and value is None:
            raise ValueError(f"{where} is null; expected a number, or leave it out")
        if isinstance(value, str) and ("float" in kinds or only_numbers):
            typed[field.name] = _as_number(value, "float" in kinds, where)
        elif isinstance(value, float) and only_numbers and "float" not in kinds:
            typed[field.name] = _as_number(str(value), False, where)
        elif isinstance(value, str) and "bool" in kinds and not kinds & {"str", "dict"}:
            # Any text counts as true in Python, 'false' too.
            raise ValueError(f"{where} is '{value}'; expected true or false, without quotes")
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

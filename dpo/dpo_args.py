"""TRL's own DPOConfig keys: which are the user's, which are ours, and the arguments they make."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trl import DPOConfig

from dpo.trainer_args import RESERVED, build_args, check_keys

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
"""The names that TRL 1.16 gives its losses; TRL itself would refuse another only at step 1."""

_SMOOTHED = {"exo_pair", "robust", "aot", "aot_unpaired"}
"""The losses that read `label_smoothing`; TRL ignores it beside any other, sigmoid included."""

_BELOW_HALF = "from 0 to below 0.5, as labels flipped more often than not say the opposite"
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "beta": (lambda beta: beta > 0, "more than 0"),
    "label_smoothing": (lambda share: 0 <= share < 0.5, _BELOW_HALF),
    "discopop_tau": (lambda tau: tau > 0, "more than 0"),
    "ld_alpha": (lambda alpha: 0 <= alpha <= 1, "between 0 and 1"),
}
"""What TRL would divide by, or take as it is."""

_RESERVED = RESERVED | {
    "max_length": "it is `validate.max_length`, so that gate and trainer agree",
    "truncation_mode": "the gate's checks hold for keep_start alone",
    "precompute_ref_log_probs": "reference log-probs are always precomputed and cached",
    "sync_ref_model": "the reference is precomputed, so it cannot move",
    "ref_model_mixup_alpha": "the reference is precomputed, so it cannot move",
    "ref_model_sync_steps": "the reference is precomputed, so it cannot move",
    "dataset_num_proc": "rows come tokenised",
    "label_smoothing_factor": "TRL's DPO losses do not read it",
    "pad_token": "padding is masked by length, so any token pads",
    "padding_free": "TRL 1.16 pads all the same",
}


def check_trainer_keys(trainer: Mapping[str, Any]) -> None:
    """Return if every key is one of TRL's `DPOConfig` and free to set.

    Raises:
        ValueError: a key is unknown to the installed TRL, or pairwright sets it, or it would do
            nothing, or a loss has a name that TRL does not know.
    """
    check_keys(trainer, "dpo", DPOConfig, _RESERVED)
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
    own = {"max_length": max_length, "precompute_ref_log_probs": True}
    args = build_args(
        trainer, "dpo", DPOConfig, folder=folder, seed=seed, cpu=cpu, bf16=bf16, own=own
    )
    for key, (fits, expected) in _RANGES.items():
        value = getattr(args, key)
        if value is not None and not fits(value):
            raise ValueError(f"dpo.trainer.{key} is {value}; expected {expected}")
    if "exo_pair" in loss_types(trainer) and not args.label_smoothing:
        raise ValueError(
            "dpo.trainer.loss_type is exo_pair, which needs a label_smoothing above 0; its paper "
            "has 0.001"
        )
    return args

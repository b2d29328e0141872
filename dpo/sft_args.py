"""TRL's own SFTConfig keys: which are the user's, which are ours, and the arguments they make."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trl import SFTConfig

from dpo.trainer_args import RESERVED, build_args, check_keys

LOSSES = ("nll", "dft")

_MASK = "the loss is over the tokens of every assistant's turn"
_ROWS = "`sft.data` says what is read, and rows come tokenised"
_WHOLE = "with packing, whole conversations are packed, best fit first"
_RESERVED = RESERVED | {
    "max_length": "it is `sft.max_length`",
    "truncation_mode": "a conversation is cut at its end, at `sft.max_length`",
    "assistant_only_loss": _MASK,
    "completion_only_loss": _MASK,
    "chat_template_path": "it is `model.chat_template`",
    "eos_token": "the chat template says what ends an answer (`model.chat_template`)",
    "pad_token": "padding is masked by length, so any token pads",
    "dataset_text_field": _ROWS,
    "dataset_kwargs": _ROWS,
    "dataset_num_proc": _ROWS,
    "shuffle_dataset": "each epoch has a shuffle of its own",
    "packing_strategy": _WHOLE,
    "padding_free": f"{_WHOLE}, and their attention kept apart (packing: true)",
    "eval_packing": "held-out conversations are measured one a row",
    "average_tokens_across_devices": "a step's loss is the mean over its tokens on all processes",
    "label_smoothing_factor": "TRL gives it up for SFT",
}


def check_trainer_keys(trainer: Mapping[str, Any]) -> None:
    """Return if every key is one of TRL's `SFTConfig` and free to set.

    Raises:
        ValueError: a key is unknown to the installed TRL, or pairwright sets it, or it would do
            nothing, or packing or the loss has a value that TRL would not know.
    """
    check_keys(trainer, "sft", SFTConfig, _RESERVED)
    if not isinstance(trainer.get("packing", False), bool):
        raise ValueError(f"sft.trainer.packing is '{trainer['packing']}'; expected true or false")
    loss = trainer.get("loss_type", "nll")
    if loss not in LOSSES:
        raise ValueError(f"sft.trainer.loss_type is '{loss}'; expected one of {', '.join(LOSSES)}")


def trainer_args(
    trainer: Mapping[str, Any], *, folder: Path, seed: int, cpu: bool, bf16: bool
) -> SFTConfig:
    """TRL's arguments: the user's keys over our defaults, and what pairwright itself sets.

    Building them joins the process group where a launcher started several processes.

    Raises:
        ValueError: TRL refuses a value.
    """
    # TRL's own packing has no room for our collator, which packs.
    own = {"max_length": None, "packing": False, "average_tokens_across_devices": True}
    return build_args(
        trainer, "sft", SFTConfig, folder=folder, seed=seed, cpu=cpu, bf16=bf16, own=own
    )

"""TRL's own RewardConfig keys: which are the user's, which are ours, the arguments they make."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trl import RewardConfig

from dpo.trainer_args import RESERVED, build_args, check_keys

_RESERVED = RESERVED | {
    "max_length": "it is `validate.max_length`, so that gate and trainer agree",
    "chat_template_path": "the template is the base model's own",
    "eos_token": "the template ends an answer",
    "dataset_num_proc": "rows come tokenised",
    "label_smoothing_factor": "a reward model's loss does not read it",
    "pad_token": "padding is a token that ends no row, so that it moves no score",
}


def check_trainer_keys(trainer: Mapping[str, Any]) -> None:
    """Return if every key is one of TRL's `RewardConfig` and free to set.

    Raises:
        ValueError: a key is unknown to the installed TRL, or pairwright sets it.
    """
    check_keys(trainer, "reward", RewardConfig, _RESERVED)


def trainer_args(
    trainer: Mapping[str, Any], *, folder: Path, seed: int, max_length: int, cpu: bool, bf16: bool
) -> RewardConfig:
    """TRL's arguments: the user's keys over our defaults, and what pairwright itself sets.

    Building them joins the process group where a launcher started several processes.

    Raises:
        ValueError: TRL refuses a value.
    """
    own = {"max_length": max_length}
    args = build_args(
        trainer, "reward", RewardConfig, folder=folder, seed=seed, cpu=cpu, bf16=bf16, own=own
    )
    centre = args.center_rewards_coefficient
    if centre is not None and not centre >= 0:
        raise ValueError(
            f"reward.trainer.center_rewards_coefficient is {centre}; expected 0 or more"
        )
    return args

"""TRL's own GRPOConfig keys: which are the user's, which are ours, and the arguments they make."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from trl import GRPOConfig

from dpo.trainer_args import RESERVED, build_args, check_keys
from schemas.configs import SamplingConfig

LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
"""The names that TRL 1.16 gives its losses; TRL itself would refuse another only at step 1."""

_CHOICES = {
    "loss_type": LOSSES,
    "scale_rewards": ("group", "batch", "none"),
    "importance_sampling_level": ("token", "sequence"),
}

_SAMPLED_HERE = "answers are sampled with transformers, in the process that trains"
_EACH_ROLLOUT = "each rollout goes to rollouts.jsonl"
_RESERVED = RESERVED | {
    "reward_weights": "a reward's weight stands beside it in grpo.rewards",
    "multi_objective_aggregation": "rewards are summed by weight before they are compared",
    "num_generations_eval": "the evaluate stage measures on held-out prompts",
    "per_device_eval_batch_size": "the evaluate stage measures on held-out prompts",
    "label_smoothing_factor": "TRL's GRPO loss does not read it",
    "generation_kwargs": "write temperature, top_p, top_k, min_p and repetition_penalty themselves",
    "chat_template_kwargs": "prompts are rendered as everywhere on the road",
    "max_tool_calling_iterations": "an answer is one turn",
    "sync_ref_model": "the reference is the SFT model, so that the KL says how far the policy went",
    "ref_model_mixup_alpha": "the reference is the SFT model",
    "ref_model_sync_steps": "the reference is the SFT model",
    "log_completions": _EACH_ROLLOUT,
    "log_multimodal": _EACH_ROLLOUT,
    "log_unique_prompts": _EACH_ROLLOUT,
    "log_completions_hub_repo": _EACH_ROLLOUT,
    "num_completions_to_print": _EACH_ROLLOUT,
    "use_transformers_paged": _SAMPLED_HERE,
    "use_transformers_continuous_batching": _SAMPLED_HERE,
    "transformers_continuous_batching_config": _SAMPLED_HERE,
    "use_vllm": _SAMPLED_HERE,
    **{field.name: _SAMPLED_HERE for field in fields(GRPOConfig) if field.name.startswith("vllm_")},
}


def check_trainer_keys(trainer: Mapping[str, Any]) -> None:
    """Return if every key is one of TRL's `GRPOConfig` and free to set.

    Raises:
        ValueError: a key is unknown to the installed TRL, or pairwright sets it, or a value is a
            name that TRL would refuse only at the first step.
    """
    check_keys(trainer, "grpo", GRPOConfig, _RESERVED)
    for key, known in _CHOICES.items():
        value = trainer.get(key, known[0])
        if value not in known and not (key == "scale_rewards" and isinstance(value, bool)):
            near = difflib.get_close_matches(str(value), known, n=1) or [", ".join(known)]
            raise ValueError(f"grpo.trainer.{key} is '{value}'; did you mean {near[0]}?")
    if trainer.get("num_generations", 0) is None:
        raise ValueError("grpo.trainer.num_generations is null; expected a number, or leave it out")


def trainer_args(
    trainer: Mapping[str, Any], *, folder: Path, seed: int, cpu: bool, bf16: bool
) -> GRPOConfig:
    """TRL's arguments: the user's keys over our defaults, and what pairwright itself sets.

    Building them joins the process group where a launcher started several processes.

    Raises:
        ValueError: TRL refuses a value, or a combination has no whole steps or no exact gradient.
    """
    args = build_args(
        trainer, "grpo", GRPOConfig, folder=folder, seed=seed, cpu=cpu, bf16=bf16, own={}
    )
    if not args.beta >= 0:
        raise ValueError(f"grpo.trainer.beta is {args.beta}; expected 0 or more")
    if not args.temperature > 0:
        raise ValueError(
            f"grpo.trainer.temperature is {args.temperature}; expected more than 0, as equal "
            "answers teach nothing"
        )
    for key in ("epsilon", "epsilon_high"):
        if getattr(args, key) is not None and not getattr(args, key) >= 0:
            raise ValueError(f"grpo.trainer.{key} is {getattr(args, key)}; expected 0 or more")
    sampling(args)
    _check_whole_steps(args)
    _check_exact_gradient(args)
    return args


def sampling(args: GRPOConfig) -> SamplingConfig:
    """How TRL's arguments have answers sampled.

    Raises:
        ValueError: a value is out of its range.
    """
    try:
        return SamplingConfig(
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k or 0,
            min_p=args.min_p or 0.0,
            repetition_penalty=args.repetition_penalty,
            max_new_tokens=args.max_completion_length,
        )
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = str(detail["loc"][0]).replace("max_new_tokens", "max_completion_length")
        raise ValueError(f"grpo.trainer.{key} is {detail['input']}: {detail['msg']}") from None


def updates_a_step(args: GRPOConfig) -> int:
    """How many optimiser updates learn from the rollouts of one step."""
    updates: int = (
        args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps
    )
    return updates


def prompts_a_step(args: GRPOConfig) -> int:
    prompts: int = args.generation_batch_size // args.num_generations
    return prompts


def _check_whole_steps(args: GRPOConfig) -> None:
    batches = args.steps_per_generation * args.num_iterations
    if batches % args.gradient_accumulation_steps:
        raise ValueError(
            f"grpo.trainer: {batches} batches learn from each step's rollouts "
            f"(steps_per_generation {args.steps_per_generation} x num_iterations "
            f"{args.num_iterations}), which is no multiple of gradient_accumulation_steps "
            f"{args.gradient_accumulation_steps}; leave steps_per_generation out, or make it one"
        )
    updates = updates_a_step(args)
    if args.max_steps > 0 and args.max_steps % updates:
        raise ValueError(
            f"grpo.trainer.max_steps is {args.max_steps} updates; expected a multiple of "
            f"{updates}, the updates that learn from each step's rollouts"
        )


def _check_exact_gradient(args: GRPOConfig) -> None:
    """Refuse what averages over a micro-batch where a step has several of them."""
    if args.gradient_accumulation_steps * args.world_size == 1:
        return
    averaged = {
        "loss_type": args.loss_type == "bnpo",
        "entropy_coef": args.entropy_coef != 0,
        "use_adaptive_entropy": args.use_adaptive_entropy,
        "top_entropy_quantile": args.top_entropy_quantile < 1,
    }
    for key, is_averaged in averaged.items():
        if is_averaged:
            raise ValueError(
                f"grpo.trainer.{key} {getattr(args, key)} is an average over each batch by itself, "
                "so that the update would depend on how a step is split into batches; set "
                "gradient_accumulation_steps: 1 and one process, or leave it out"
            )

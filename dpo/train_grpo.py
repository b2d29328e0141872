"""Improve a policy online with GRPO, from prompts and a reward to the policy's folder.

The recipe: sample a group of answers to each prompt, score them with the reward that ranks
candidates too, take each answer's advantage over its group, train with TRL on them, resume from the
last whole checkpoint after a kill, save.

Departures from Shao et al. (2024):

- An answer that no reward judged is left out of its group: its advantage is 0, and mean and
  standard deviation are the others'.
- TRL's defaults stand, of which the paper has others: no KL in the loss (beta 0), and a mean over
  the tokens of all answers rather than of each (loss_type dapo, Yu et al., 2025).
- How far the policy has moved from the SFT model is measured at every step, beta or not, on the
  step's own answers: the mean over their tokens of log(policy / SFT model), both at the sampling
  temperature, the policy being the one that sampled.

With several processes (`torchrun --nproc_per_node 2 -m pairwright grpo CONFIG`) every process
calls `train_grpo`; the first alone writes, apart from the random state in a checkpoint, of which
each process has its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.generators import TransformersGenerator
from curation.models import Policy, device_of, load_chat, weights_hash
from curation.rewards.weighted import WeightedSum
from dpo.checkpoints import prepare_folder, seal, step_of
from dpo.launch import check_processes
from dpo.online import OnlineResult, OnlineStep, Rollout
from dpo.policy import (
    FrozenStart,
    bf16_by_default,
    load_with_adapter,
    precision_of,
    save_policy,
    save_weights,
    shape_notes,
    ties_note,
    trainable_parameters,
)
from dpo.rollouts import OnlineLog, Scored, mean_of, off_policy, scored
from dpo.step_log import StepLog
from dpo.watch import Watch, alarms
from schemas.configs import GrpoConfig, ModelConfig
from schemas.records import Completion, Prompt, content_hash

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from transformers import PreTrainedModel
    from trl import GRPOConfig

    from curation.chat import ChatTemplate
    from dpo.group_judge import GroupJudge

Progress = Callable[[str, int, int], None]
"""Called with what was just done, how many of it are done, and how many there are."""


def check_trainer(trainer: Mapping[str, Any], model: ModelConfig) -> None:
    """Return if TRL's `GRPOConfig` takes the mapping and pairwright leaves its keys to the user.

    Raises:
        ValueError: it does not; one sentence that names the key and, for a typo, the nearest.
    """
    from dpo.grpo_args import check_trainer_keys, trainer_args

    check_trainer_keys(trainer)
    cpu = device_of(model).type == "cpu"
    trainer_args(trainer, folder=Path(), seed=0, cpu=cpu, bf16=False)


def train_grpo(
    prompts: Sequence[Prompt],
    model: ModelConfig,
    config: GrpoConfig,
    reward: "WeightedSum | GroupJudge",
    *,
    watch: Watch,
    out: Path,
    seed: int,
    progress: Progress | None = None,
) -> OnlineResult:
    """The policy trained on its own answers to the prompts, in `out/policy`.

    `out` also gets the step log, the rollouts and the checkpoints. A run that was killed goes on
    from its last whole checkpoint and ends where an uninterrupted one ends; other prompts, weights,
    settings, rewards or number of processes start again.

    Raises:
        ValueError: a setting, the prompts, a reward or the model does not allow the training.
    """
    from accelerate.utils import broadcast_object_list

    from dpo.grpo_args import (
        check_trainer_keys,
        prompts_a_step,
        sampling,
        trainer_args,
        updates_a_step,
    )
    from dpo.trl_adapters.groups import GroupTrainer

    check_trainer_keys(config.trainer)
    cpu = device_of(model).type == "cpu"
    checkpoints = out / "checkpoints"

    def make_args(bf16: bool) -> "GRPOConfig":
        return trainer_args(config.trainer, folder=checkpoints, seed=seed, cpu=cpu, bf16=bf16)

    args = make_args(bf16=bf16_by_default(model, device_of(model)))
    check_processes(args.world_size)
    first = args.process_index == 0
    wait = args.distributed_state.wait_for_everyone
    notes = off_policy(sampling(args))

    # The prompts
    chat = load_chat(model)
    prompts = list({prompt.id: prompt for prompt in prompts}.values())
    batch = prompts_a_step(args)
    _check_prompts(prompts, chat, args, model)
    if watch.prompts and not isinstance(reward, WeightedSum):
        raise ValueError(
            f"grpo.watch.every is {watch.config.every}, but the judge '{reward.name}' only "
            "compares answers of one group, and has no reward for held-out prompts; set it to 0"
        )
    reward.check(prompts)
    dropped = len(prompts) % batch
    if dropped:
        notes.append(
            f"ROWS_DROPPED: {dropped} of {len(prompts)} prompts are left out of each epoch, as a "
            f"step takes {batch}; "
            + ("each epoch leaves out others" if args.shuffle_dataset else "always the last ones")
        )
        if first and progress is not None:
            progress(notes[-1], 0, len(prompts))

    # The policy, and what precision it can be trained in
    start = weights_hash(model)
    policy = load_with_adapter(model, config.lora, seed=seed)
    asked, full = bool(config.trainer.get("bf16")), config.lora is None
    if args.bf16 and (note := ties_note(policy, "grpo", full=full, asked=asked)):
        notes.append(note)
        args = args if asked else make_args(bf16=False)
    precision = precision_of(policy, bf16=args.bf16, fp16=args.fp16)

    # What a checkpoint must have been made with, to be gone on from
    identity = content_hash(
        [(prompt.id, chat.prompt_ids(prompt)) for prompt in prompts],
        [start, chat.hash, seed, precision, args.device.type, args.world_size],
        [reward.name, _weights_of(reward)],
        watch.measured,
        config.model_dump(mode="json", exclude={"watch"}),
    )
    log = OnlineLog(out)
    updates = updates_a_step(args)
    resume_from = None
    if first:
        resume_from = prepare_folder(out, _UpdateLog(log, updates), identity)
    (resume_from,) = broadcast_object_list([resume_from])
    made: list[OnlineStep]
    (made,) = broadcast_object_list([log.read_steps() if first else None])
    stopped: list[str] = []

    def score(of: Sequence[Prompt], completions: Sequence[Completion]) -> Scored:
        return scored(reward, watch, of, completions)  # type: ignore[arg-type]

    def held_out(
        model_now: "PreTrainedModel", step: int, autocast: "AbstractContextManager[None]"
    ) -> float | None:
        if not isinstance(reward, WeightedSum) or not watch.due(step):
            return None
        now = Policy(model_now, chat.tokenizer, chat, f"step-{step}", model.path)
        (found,) = broadcast_object_list(
            [_held_out_reward(now, reward, watch, args, seed, autocast) if first else None]
        )
        return float(found) if found is not None else None

    def on_step(step: OnlineStep, rollouts: list[Rollout], total: int) -> str | None:
        made.append(step)
        _check_finite(step)
        if first:
            log.append(step, rollouts)
            if progress is not None:
                progress(_step_text(step), step.step, total)
        reason = watch.stop(made)
        if reason is not None:
            stopped.append(reason)
        return reason

    def before_save() -> None:
        if first:
            log.sync()

    trainer = GroupTrainer(
        policy,
        args,
        prompts,
        chat,
        score,
        reference=FrozenStart(policy, model),
        tokens=made[-1].tokens if made else 0,
        held_out=held_out,
        on_step=on_step,
        before_save=before_save,
        after_save=seal,
    )
    trainable = trainable_parameters(trainer.model)

    if (reason := watch.stop(made)) is not None:
        stopped.append(reason)
        args.max_steps = len(made) * updates  # ended there, and killed before the policy was saved
    outcome = trainer.train(resume_from_checkpoint=resume_from)
    folder = out / "policy"
    save_policy(lambda to: save_weights(policy, to) if first else None, folder, model, first)
    wait()

    notes.extend(alarms(made, watch.config.window))
    if config.lora is not None and model.adapter is not None:
        notes.extend(shape_notes(trainer.model, config.lora, "grpo"))
    trained = (
        model.model_copy(update={"adapter": str(folder)})
        if config.lora is not None
        else ModelConfig(path=str(folder))
    )
    return OnlineResult(
        policy=folder,
        steps=made,
        facts={
            "rewards": _weights_of(reward),
            "reward": reward.name,
            "beta": args.beta,
            "loss_type": args.loss_type,
            "scale_rewards": args.scale_rewards,
            "num_generations": args.num_generations,
            "prompts": len(prompts),
            "prompts_a_step": batch,
            "rows_dropped": dropped,
            "prompts_used": len({prompt_id for step in made for prompt_id in step.prompt_ids}),
            "rollouts": sum(len(step.prompt_ids) for step in made),
            "tokens_sampled": made[-1].tokens,
            "steps": len(made),
            "updates_a_step": updates,
            "sampling": sampling(args).model_dump(),
            "world_size": args.world_size,
            "seed": args.seed,
            "device": args.device.type,
            "precision": precision,
            "method": "full" if config.lora is None else "lora",
            "trainable_parameters": trainable,
            "parameters": trainer.model.num_parameters(),
            "template": chat.hash,
            "start_weights": start,
            "weights": weights_hash(trained),
            "resumed_from_step": 0
            if resume_from is None
            else step_of(Path(resume_from)) // updates,
            "train_seconds": outcome.metrics["train_runtime"],
            "stopped": stopped[0] if stopped else None,
            "health": notes,
        },
    )


class _UpdateLog(StepLog[OnlineStep]):
    """The log as checkpoints know it: they count updates, of which a step may have several."""

    def __init__(self, log: OnlineLog, updates: int) -> None:
        super().__init__(log.steps.path, OnlineStep)
        self._log, self._updates = log, updates

    def cut(self, step: int) -> None:
        self._log.cut(step // self._updates)


def _check_prompts(
    prompts: Sequence[Prompt], chat: "ChatTemplate", args: "GRPOConfig", model: ModelConfig
) -> None:
    """Return if the prompts fill a step and each leaves room for its answers.

    Raises:
        ValueError: they do not.
    """
    from transformers import AutoConfig

    from curation.models import model_folder
    from dpo.grpo_args import prompts_a_step

    batch = prompts_a_step(args)
    if len(prompts) < batch:
        raise ValueError(
            f"DATASET_SMALLER_THAN_BATCH: {len(prompts)} prompts but a step takes {batch} "
            f"({args.generation_batch_size} answers, {args.num_generations} a prompt); give more "
            "prompts, or lower grpo.trainer's per_device_train_batch_size or "
            "gradient_accumulation_steps"
        )
    settings = AutoConfig.from_pretrained(model_folder(model), revision=model.revision)
    limit = getattr(settings, "max_position_embeddings", None)
    longest = max(prompts, key=lambda prompt: len(chat.prompt_ids(prompt)))
    tokens = len(chat.prompt_ids(longest))
    if limit is not None and tokens + args.max_completion_length > limit:
        raise ValueError(
            f"prompt '{longest.id}' has {tokens} tokens; with max_completion_length "
            f"{args.max_completion_length} it does not fit the model's {limit} positions"
        )


def _weights_of(reward: "WeightedSum | GroupJudge") -> dict[str, float]:
    if isinstance(reward, WeightedSum):
        return {component.name: component.weight for component in reward.rewards}
    return {reward.name: 1.0}


def _held_out_reward(
    policy: Policy,
    reward: WeightedSum,
    watch: Watch,
    args: "GRPOConfig",
    seed: int,
    autocast: "AbstractContextManager[None]",
) -> float | None:
    """The mean reward of one answer to each held-out prompt, sampled within `autocast`."""
    from dpo.grpo_args import sampling

    batch = args.per_device_train_batch_size * args.steps_per_generation
    generator = TransformersGenerator(policy, sampling(args), batch_size=batch, seed=seed)
    with autocast:
        answers = list(generator.generate(watch.prompts, n=1))
    asked = [prompt for prompt, _ in answers]
    return mean_of(reward(asked, [candidates[0].completion for _, candidates in answers]))


def _check_finite(step: OnlineStep) -> None:
    if not math.isfinite(step.loss):
        raise ValueError(
            f"the loss of step {step.step} is {step.loss}; lower grpo.trainer.learning_rate"
        )


def _step_text(step: OnlineStep) -> str:
    reward = "none" if step.reward is None else f"{step.reward:.3f}"
    spread = "" if step.reward_std is None else f" (std {step.reward_std:.3f})"
    return f"reward {reward}{spread}, KL {step.kl:.4f}, gradient {step.grad_norm:.3f}"

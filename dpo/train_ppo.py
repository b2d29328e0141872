"""Train a policy with PPO on a reward, from prompts to the policy's folder: our own, as TRL has
none.

The recipe, once a step: answer prompts with the policy as it is; score the answers by the reward
that also ranks and evaluates; take off a penalty where an answer did not end; measure each token
under the policy, under the SFT model and by the value head; spread the reward over the tokens with
a KL to the SFT model at each; estimate advantages; update policy and value by clipped losses.

    pairwright ppo CONFIG.yaml
    torchrun --nproc_per_node 2 -m pairwright ppo CONFIG.yaml

Departures from the textbook, and choices that it leaves open:

- Log-probs, in the ratio and in the KL alike, are of the softmax at the sampling temperature: that
  is the policy which sampled. top_p, top_k, min_p and the repetition penalty are not part of it, so
  that with them the samples are slightly off-policy, which the facts tell.
- Dropout is off: a ratio would else compare two different masks.
- Losses are means over a minibatch's tokens, so a long answer weighs more than a short one.
- Nothing of the run is random but what seeds made of the run's seed and the step decide. So a
  checkpoint holds no random state, and a killed training ends where an uninterrupted one ends.
- Gradients are added up between processes, each of which holds the whole model: no wrapper, and no
  model that is larger than a device.

With several processes all call `train_ppo`; the first alone writes.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from curation.generators import TransformersGenerator
from curation.models import Policy, device_of, load_chat, weights_hash
from curation.rewards.weighted import WeightedSum
from dpo.checkpoints import prepare_folder, seal, step_of
from dpo.launch import check_processes
from dpo.online import OnlineResult, OnlineStep
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
from dpo.ppo_rollouts import judge, measure, penalised, prompts_of_step, sample, seed_of
from dpo.rollouts import OnlineLog, mean_of, off_policy
from dpo.watch import Watch, alarms
from schemas.configs import ModelConfig, PpoConfig
from schemas.records import Prompt, content_hash

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from dpo.value_model import PolicyWithValue

Progress = Callable[[str, int, int], None]
"""Called with what was just done, how many of it are done, and how many there are."""

_ADAM_EPSILON = 1e-5
"""As Huang et al. (2024) advise: with the usual 1e-8 PPO's first updates are too large."""
_CHECKPOINTS_KEPT = 2
_STATE = "state.pt"


def train_ppo(
    prompts: Sequence[Prompt],
    model: ModelConfig,
    config: PpoConfig,
    reward: WeightedSum,
    *,
    watch: Watch,
    out: Path,
    seed: int,
    progress: Progress | None = None,
) -> OnlineResult:
    """The policy trained to answer the prompts as the reward likes, in `out/policy`.

    `out` also gets the step log, the rollouts and the checkpoints. A run that was killed goes on
    from its last whole checkpoint; other prompts, weights, rewards (by name and weight), settings
    or number of processes start again.

    Raises:
        ValueError: a setting, a prompt, the reward or the model does not allow the training that
            is asked for.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from dpo.losses import adapted_kl_coef
    from dpo.ppo_records import rollout_records, step_record
    from dpo.ppo_update import experience, learn
    from dpo.value_model import PolicyWithValue, TokenRow

    _check(prompts, config, reward)
    state = PartialState(cpu=device_of(model).type == "cpu")
    check_processes(state.num_processes)
    first, device = state.is_main_process, state.device
    notes = _notes(config)

    # The policy, what its KL is measured from, and its value model
    chat, start_weights = load_chat(model), weights_hash(model)
    policy = load_with_adapter(model, config.lora, seed=seed).to(device)
    start = FrozenStart(policy, model)
    separate = None
    if config.value == "separate":
        separate = load_with_adapter(model, config.lora, seed=seed).to(device)
    bf16 = bf16_by_default(model, device)
    if bf16 and (note := ties_note(policy, "ppo", full=config.lora is None, asked=False)):
        notes.append(note)
        bf16 = False
    precision = precision_of(policy, bf16=bf16)
    trainable = trainable_parameters(policy)
    sampler = Policy(policy, chat.tokenizer, chat, start_weights, model.path)
    TransformersGenerator(sampler, config, batch_size=1, seed=seed).check_fits(prompts)
    trained = PolicyWithValue(policy, separate, temperature=config.temperature, bf16=bf16)
    rates = config.learning_rate, config.value_learning_rate or config.learning_rate
    parameters = trained.policy_parameters(), trained.value_parameters()
    optimizer = torch.optim.AdamW(
        [
            {"params": group, "lr": rate, "full_lr": rate}
            for group, rate in zip(parameters, rates, strict=True)
        ],
        eps=_ADAM_EPSILON,
        weight_decay=0.0,
    )

    # What a checkpoint must have been made with, to be gone on from
    identity = content_hash(
        [prompt.id for prompt in prompts],
        [(part.name, part.weight) for part in reward.rewards],
        [start_weights, chat.hash, seed, precision, device.type, state.num_processes],
        watch.measured,
        config.model_dump(mode="json", exclude={"microbatch", "save_steps", "watch"}),
    )
    log, checkpoint, steps = OnlineLog(out), None, []
    if first:
        checkpoint = prepare_folder(out, log.steps, identity)
        log.cut(0 if checkpoint is None else step_of(Path(checkpoint)))
        steps = log.read_steps()
    checkpoint, steps = broadcast_object_list([checkpoint, steps])
    resumed_from = len(steps)
    kl_coef = config.kl_coef
    if checkpoint is not None:
        kl_coef = _restore(Path(checkpoint), trained, optimizer)

    seconds: dict[str, float] = {}
    ended_early = 0
    while (stopped := watch.stop(steps)) is None and len(steps) < config.steps:
        number = len(steps) + 1

        # Answers of the policy as it is, and what they are worth
        asked = prompts_of_step(prompts, number, config.rollouts // config.n, seed)
        with _timed(seconds, "sampling"), trained.autocast():
            answers = sample(
                sampler, config, asked, n=config.n, seed=seed_of(seed, "rollouts", number)
            )
        with _timed(seconds, "scoring"):
            worths = judge(reward, watch, answers)
        held_out = None
        if watch.due(number):
            with _timed(seconds, "watching"):
                held_out_seed = seed_of(seed, "held out")
                with trained.autocast():
                    shown = sample(sampler, config, watch.prompts, n=1, seed=held_out_seed)
                held_out = mean_of(worth.reward for worth in judge(reward, watch, shown))

        # Each token under the policy, the SFT model and the value head; then the updates
        with _timed(seconds, "learning"):
            rows = [
                TokenRow(chat.prompt_ids(answer.prompt), answer.completion.token_ids or ())
                for answer in answers
            ]
            said = measure(trained, start, rows, microbatch=config.microbatch)
            rewards = [
                penalised(answer, worth, config.missing_eos_penalty)
                for answer, worth in zip(answers, worths, strict=True)
            ]
            gained = experience(rows, rewards, said, kl_coef=kl_coef, config=config)
            warm = min(1.0, number / max(config.warmup_steps, 1))
            for group in optimizer.param_groups:
                group["lr"] = warm * group["full_lr"]
            order = seed_of(seed, "minibatches", number)
            learned = learn(trained, optimizer, gained, config, seed=order)
        ended_early += learned.ended_early

        # What the step saw and did
        record = step_record(
            steps,
            answers,
            worths,
            said,
            gained,
            learned,
            held_out_reward=held_out,
            learning_rate=warm * config.learning_rate,
            kl_coef=kl_coef,
        )
        _check_finite(record, log.path)
        steps.append(record)
        if config.kl_target is not None:
            kl = fmean(row.kl for row in said)
            kl_coef = adapted_kl_coef(
                kl_coef, kl, config.kl_target, config.kl_horizon, config.rollouts
            )
        if first:
            log.append(record, rollout_records(number, answers, worths, said, gained))
            over = number == config.steps or watch.stop(steps) is not None
            if over or number % config.save_steps == 0:
                log.sync()
                _save(out / "checkpoints", number, trained, optimizer, kl_coef)
            if progress is not None:
                progress(_step_text(record), number, config.steps)

    folder = out / "policy"
    save_policy(lambda to: save_weights(policy, to) if first else None, folder, model, first)
    state.wait_for_everyone()

    if ended_early:
        notes.append(
            f"UPDATE_KL: {ended_early} of {len(steps) - resumed_from} steps ended early, as their "
            f"updates went beyond max_update_kl = {config.max_update_kl:g}"
        )
    if config.lora is not None and model.adapter is not None:
        notes.extend(shape_notes(policy, config.lora, "ppo"))
    adapter = model.model_copy(update={"adapter": str(folder)})
    whole = ModelConfig(path=str(folder))
    facts = {
        "rewards": {part.name: part.weight for part in reward.rewards},
        "prompts": len(prompts),
        "steps": len(steps),
        "rollouts_a_step": config.rollouts,
        "tokens_sampled": steps[-1].tokens if steps else 0,
        "abstained": sum(record.abstained for record in steps),
        "final_kl_coef": kl_coef,
        "stopped": stopped,
        "world_size": state.num_processes,
        "seed": seed,
        "device": device.type,
        "precision": precision,
        "method": "full" if config.lora is None else "lora",
        "value": config.value,
        "trainable_parameters": trainable,
        "value_parameters": sum(weight.numel() for weight in trained.value_parameters()),
        "parameters": policy.num_parameters(),
        "template": chat.hash,
        "start_weights": start_weights,
        "weights": weights_hash(whole if config.lora is None else adapter),
        "resumed_from_step": resumed_from,
        "seconds": {name: round(spent, 2) for name, spent in seconds.items()},
        "health": [*alarms(steps, watch.config.window), *notes],
    }
    return OnlineResult(folder, steps, facts)


def _check(prompts: Sequence[Prompt], config: PpoConfig, reward: WeightedSum) -> None:
    if config.judge is not None or not isinstance(reward, WeightedSum):
        raise ValueError(
            "ppo.judge ranks answers and gives none a score of its own, which PPO learns from; "
            "give ppo.rewards, or train with grpo, which takes a judge"
        )
    if not prompts:
        raise ValueError("there is no prompt to train on; give prompts")


def _notes(config: PpoConfig) -> list[str]:
    """What is to be known about the settings."""
    notes = off_policy(config)
    if config.lora is not None and config.lora.dropout:
        notes.append(
            f"NO_DROPOUT: ppo.lora.dropout {config.lora.dropout:g} is not used, as PPO compares "
            "the probabilities of an answer before and after an update"
        )
    return notes


@contextlib.contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """A scope whose duration is added to that of what it does."""
    began = time.perf_counter()
    yield
    seconds[what] = seconds.get(what, 0.0) + time.perf_counter() - began


def _check_finite(record: OnlineStep, log: Path) -> None:
    if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm)):
        raise ValueError(
            f"step {record.step} has loss {record.loss} and gradient norm {record.grad_norm}; "
            f"lower ppo.learning_rate, or look at the rollouts before it in '{log}'"
        )


def _step_text(record: OnlineStep) -> str:
    reward = "-" if record.reward is None else f"{record.reward:.3f}"
    return f"reward {reward}, KL {record.kl:.4f} a token"


def _save(
    folder: Path, step: int, model: "PolicyWithValue", optimizer: "Optimizer", kl_coef: float
) -> None:
    """Put a whole checkpoint in the folder, and remove all but the newest few."""
    import torch

    checkpoint = folder / f"checkpoint-{step}"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir(parents=True)
    state = {
        "weights": {
            name: weight.detach()
            for name, weight in model.named_parameters()
            if weight.requires_grad
        },
        "optimizer": optimizer.state_dict(),
        "kl_coef": kl_coef,
    }
    torch.save(state, checkpoint / _STATE)
    seal(checkpoint)
    for old in sorted(folder.glob("checkpoint-*"), key=step_of)[:-_CHECKPOINTS_KEPT]:
        shutil.rmtree(old)


def _restore(checkpoint: Path, model: "PolicyWithValue", optimizer: "Optimizer") -> float:
    """Put the checkpoint's weights and moments in model and optimiser; the KL's weight."""
    import torch

    state = torch.load(checkpoint / _STATE, map_location="cpu", weights_only=True)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    return float(state["kl_coef"])

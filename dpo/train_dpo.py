"""Train a policy on preference pairs with DPO, from the dataset's folder to the policy's.

The recipe: tokenise the pairs as the chat template renders them, get the reference's log-probs
(from the cache, or once from the reference), prove that the policy starts at its reference, train
with TRL, resume from the last whole checkpoint after a kill, save.

Departures from the textbook:

- A pair's confidence enters the loss as w * [p * loss(+) + (1 - p) * loss(-)], where loss(-) is of
  the pair with its sides swapped. The loss of a step is the mean of that over its pairs: weights
  are not renormalised, so a step of pairs that weigh little moves the policy little, and weights of
  1 give stock DPO.
- Weights are float32 and bf16, where used, is autocast: updates of 1e-6 vanish in bf16 weights.

With several processes (`torchrun --nproc_per_node 2 -m pairwright dpo CONFIG`) every process
calls `train_dpo`; the first alone writes, apart from the random state in a checkpoint, of which
each process has its own.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from curation.models import device_of, load_chat, weights_hash
from dpo.checkpoints import prepare_folder, seal, step_of
from dpo.launch import check_processes
from dpo.policy import (
    bf16_by_default,
    check_vocabulary,
    load_start,
    precision_of,
    save_policy,
    shape_notes,
    ties_note,
    trainable_parameters,
)
from dpo.reference import read_reference, reference_key, write_reference
from dpo.step_log import StepLog, StepRecord, check_finite, saturated_since
from dpo.tokens import PairTokens, tokenise_pairs, tokens_hash
from schemas.configs import DpoConfig, ModelConfig
from schemas.records import content_hash

Progress = Callable[[str, int, int], None]
"""Called with what was just done, how many of it are done, and how many there are."""

_CONFIDENCE_NEEDS = {"use_weighting": False, "f_divergence_type": "reverse_kl", "ld_alpha": None}


class DpoResult(NamedTuple):
    """A trained policy, and how it was trained."""

    policy: Path
    """An adapter's folder after LoRA, else a whole model's; the tokenizer lies in it."""
    steps: list[StepRecord]
    facts: dict[str, Any]


class Confidence(NamedTuple):
    """Whether the pairs' confidence enters the loss, and how many pairs have one to enter."""

    used: bool
    requested: bool
    pairs_below_one: int
    weights_other_than_one: int


def check_trainer(trainer: Mapping[str, Any], model: ModelConfig) -> None:
    """Return if TRL's `DPOConfig` takes the mapping and pairwright leaves its keys to the user.

    Raises:
        ValueError: it does not; one sentence that names the key and, for a typo, the nearest.
    """
    from dpo.dpo_args import check_trainer_keys, trainer_args

    check_trainer_keys(trainer)
    cpu = device_of(model).type == "cpu"
    trainer_args(trainer, folder=Path(), seed=0, max_length=2, cpu=cpu, bf16=False)


def train_dpo(
    dataset_folder: Path,
    model: ModelConfig,
    config: DpoConfig,
    *,
    out: Path,
    seed: int,
    max_length: int,
    progress: Progress | None = None,
) -> DpoResult:
    """The policy trained on the dataset's training split, in `out/policy`.

    `out` also gets the step log, the checkpoints and the reference's log-probs. A run that was
    killed goes on from its last whole checkpoint and ends where an uninterrupted one ends; other
    data, weights, settings or number of processes start again.

    Raises:
        ValueError: a setting, the data or the model does not allow the training that is asked for.
    """
    from accelerate.utils import broadcast_object_list

    from curation.formats.trl import read_dataset
    from curation.rewards.scoring import check_positions
    from dpo.dpo_args import check_trainer_keys, loss_types, trainer_args
    from dpo.trl_adapters.pairs import PairTrainer

    check_trainer_keys(config.trainer)
    cpu = device_of(model).type == "cpu"
    checkpoints = out / "checkpoints"

    def make_args(bf16: bool) -> Any:
        return trainer_args(
            config.trainer,
            folder=checkpoints,
            seed=seed,
            max_length=max_length,
            cpu=cpu,
            bf16=bf16,
        )

    args = make_args(bf16=bf16_by_default(model, device_of(model)))
    check_processes(args.world_size)
    first = args.process_index == 0
    wait = args.distributed_state.wait_for_everyone
    notes: list[str] = []

    # The pairs
    chat = load_chat(model)
    rows = read_dataset(dataset_folder).get("train", [])
    if not rows:
        raise ValueError(f"dataset '{dataset_folder}' has no pair to train on in its train split")
    pairs = tokenise_pairs(rows, chat, max_length)
    confidence = _confidence(pairs, config)
    longest = max(pair.longest for pair in pairs)
    check_positions(longest, model, "validate.max_length")
    truncated = sum(pair.truncated for pair in pairs)
    if truncated:
        notes.append(
            f"TRUNCATED: {truncated} of {len(pairs)} pairs are trained on without the end of an "
            f"answer, which goes beyond max_length {max_length}"
        )

    # The policy, and what precision it can be trained in
    start = weights_hash(model)
    policy, lora = load_start(model, config.lora)
    asked, full = bool(config.trainer.get("bf16")), config.lora is None
    if args.bf16 and (note := ties_note(policy, "dpo", full=full, asked=asked)):
        notes.append(note)
        args = args if asked else make_args(bf16=False)
    precision = precision_of(policy, bf16=args.bf16, fp16=args.fp16)

    # The reference
    reference_model = model if config.reference is None else _reference_config(config, model)
    reference_weights = start if config.reference is None else weights_hash(reference_model)
    device = args.device.type
    key = reference_key(
        pairs,
        weights=reference_weights,
        precision=f"{device} {precision}",
        ld_alpha=args.ld_alpha,
    )
    stored = out / "reference" / f"{key}.parquet"
    (known,) = broadcast_object_list([read_reference(stored) if first else None])
    separate = None
    if config.reference is not None:
        check_vocabulary(chat.tokenizer, reference_model)
        check_positions(longest, reference_model, "validate.max_length")
        if known is None:
            separate, _ = load_start(reference_model, None)

    # What a checkpoint must have been made with, to be gone on from
    identity = content_hash(
        tokens_hash(pairs),
        [(pair.p_chosen, pair.weight) for pair in pairs] if confidence.used else None,
        [start, key, seed, precision, device, args.world_size],
        config.model_dump(mode="json"),
    )
    log = StepLog(out / "steps.jsonl", StepRecord)
    resume_from = prepare_folder(out, log, identity) if first else None
    (resume_from,) = broadcast_object_list([resume_from])

    def on_reference(done: int, total: int) -> None:
        if first and progress is not None:
            progress("reference log-probs", done, total)

    made: list[StepRecord] = []

    def on_step(record: StepRecord, total: int) -> None:
        made.append(record)
        # Under fp16 a gradient may overflow: the scaler then leaves out the step.
        grad_norm = None if args.fp16 else record.grad_norm
        check_finite(record.step, record.loss, grad_norm, section="dpo", rows="pairs", log=log.path)
        if record.step == 3:
            _check_learned(made)
        if first:
            log.append(record)
            if progress is not None:
                progress(_step_text(record), record.step, total)

    def before_save() -> None:
        if first:
            log.sync()

    trainer = PairTrainer(
        policy,
        args,
        pairs,
        chat.tokenizer,
        ref_model=separate,
        peft_config=lora,
        confidence=confidence.used,
        reference=known,
        starts_at_reference=config.reference is None,
        on_reference=on_reference,
        on_step=on_step,
        before_save=before_save,
        after_save=seal,
    )
    del separate
    if first and known is None:
        write_reference(stored, pairs, trainer.reference)
    trainable = trainable_parameters(trainer.model)

    outcome = trainer.train(resume_from_checkpoint=resume_from)
    folder = out / "policy"
    save_policy(trainer.save_model, folder, model, first)
    wait()

    steps = log.read()
    if (since := saturated_since(steps)) is not None:
        notes.append(
            f"SATURATED: from step {since} on every pair was right with a reward margin above 10; "
            "the pairs differ in something trivial, or the learning rate is far too high"
        )
    if config.lora is not None and model.adapter is not None:
        notes.extend(shape_notes(trainer.model, config.lora, "dpo"))
    trained = (
        model.model_copy(update={"adapter": str(folder)})
        if config.lora is not None
        else ModelConfig(path=str(folder))
    )
    return DpoResult(
        policy=folder,
        steps=steps,
        facts={
            "confidence": confidence._asdict(),
            "loss_type": loss_types(config.trainer),
            "beta": args.beta,
            "pairs": len(pairs),
            "truncated_pairs": truncated,
            "max_length": max_length,
            "steps": len(steps),
            "pairs_a_step": (
                args.train_batch_size * args.world_size * args.gradient_accumulation_steps
            ),
            "world_size": args.world_size,
            "seed": args.seed,
            "data_seed": args.data_seed,
            "device": device,
            "precision": precision,
            "method": "full" if config.lora is None else "lora",
            "trainable_parameters": trainable,
            "parameters": trainer.model.num_parameters(),
            "template": chat.hash,
            "reference": {
                "model": config.reference or "the policy's start",
                "weights": reference_weights,
                "key": key,
                "cache_hit": known is not None,
            },
            "start_weights": start,
            "weights": weights_hash(trained),
            "resumed_from_step": 0 if resume_from is None else step_of(Path(resume_from)),
            "train_seconds": outcome.metrics["train_runtime"],
            "health": notes,
        },
    )


def _confidence(pairs: Sequence[PairTokens], config: DpoConfig) -> Confidence:
    """Whether the pairs' confidence is used.

    Raises:
        ValueError: it is asked for, there is some, and the loss cannot take it in.
    """
    from dpo.dpo_args import loss_types
    from dpo.pair_losses import NO_PAIR_LOSS

    have = sum(pair.has_confidence for pair in pairs)
    used = config.confidence and have > 0
    found = f"but {have} of {len(pairs)} pairs have p_chosen below 1 or a weight other than 1"
    remedy = "set dpo.confidence: false to train without it"
    losses = loss_types(config.trainer)
    for loss in losses:
        if used and loss in NO_PAIR_LOSS:
            raise ValueError(
                f"dpo.trainer.loss_type is {', '.join(losses)}, {found}, and confidence is not "
                f"defined for {loss}, {NO_PAIR_LOSS[loss]}; {remedy}, or take another loss"
            )
    for key, neutral in _CONFIDENCE_NEEDS.items():
        value = config.trainer.get(key, neutral)
        if used and value != neutral:
            raise ValueError(
                f"dpo.trainer.{key} is {value}, {found}, and confidence is not defined beside it; "
                f"{remedy}, or leave {key} out"
            )
    return Confidence(
        used=used,
        requested=config.confidence,
        pairs_below_one=sum(pair.p_chosen < 1 for pair in pairs),
        weights_other_than_one=sum(pair.weight != 1 for pair in pairs),
    )


def _step_text(record: StepRecord) -> str:
    return f"loss {record.loss:.4f}, margin {record.rewards_margin or 0:.3f}"


def _check_learned(steps: Sequence[StepRecord]) -> None:
    """Return if the policy has left its reference, where a step gave it the chance to."""
    moved = any(record.rewards_margin for record in steps)
    tried = sum(record.learning_rate or 0 for record in steps[:-1]) > 0
    if tried and not moved:
        raise ValueError(
            f"NOTHING_TRAINABLE: after step {steps[-1].step} every reward margin is exactly 0, so "
            "the optimiser has moved no weight of the policy"
        )


def _reference_config(config: DpoConfig, model: ModelConfig) -> ModelConfig:
    return ModelConfig(path=str(config.reference), dtype=model.dtype, device=model.device)

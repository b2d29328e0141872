"""Train a reward model on preference pairs, from the dataset's folder to the model's.

The recipe: tokenise both conversations of each pair as the model's own chat template renders them,
put a head with one output on the base model, train with TRL, resume from the last whole checkpoint
after a kill, save one whole model, and ask that model about the pairs that were held out.

Departures from the textbook (Ouyang et al., 2022, eq. 1):

- A pair's confidence enters the loss as w * [p * loss(+) + (1 - p) * loss(-)], and its margin as
  Touvron et al. (2023), eq. 2, have it, times `reward.margin`. The loss of a step is the mean of
  that over its pairs: weights are not renormalised.
- A pair with a side over the length limit is quarantined, not cut: the score is read at the end
  of the answer.
- Held-out figures come from the saved model as `curation.rewards.model.RewardModel` loads it,
  which is what ranks, trains and evaluates later.

With several processes (`torchrun --nproc_per_node 2 -m pairwright reward CONFIG`) every process
calls `train_reward`; the first alone writes, apart from the random state in a checkpoint, of which
each process has its own.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.models import device_of, load_chat, weights_hash
from curation.validation.row import Quarantined
from dpo.checkpoints import prepare_folder, seal, step_of
from dpo.launch import check_processes
from dpo.policy import bf16_by_default, precision_of, ties_note, trainable_parameters
from dpo.reward_accuracy import HeldOut, LabelAgreement, ScoredPair, measure
from dpo.step_log import StepLog, check_finite, saturated_since
from schemas.configs import ModelConfig, RewardModelConfig
from schemas.records import content_hash

if TYPE_CHECKING:
    from curation.rewards.model import RewardModel
    from dpo.reward_rows import Comparison, RewardRow
    from dpo.trl_adapters.rewards import RewardStep

Progress = Callable[[str, int, int], None]
"""Called with what was just done, how many of it are done, and how many there are."""


class RewardResult(NamedTuple):
    """A trained reward model, and how it was trained."""

    model: Path
    """A whole model's folder, which `curation.rewards.model:RewardModel` loads."""
    steps: "list[RewardStep]"
    facts: dict[str, Any]
    quarantined: list[Quarantined]
    """The pairs that were not trained on, each with its reason."""


def check_trainer(trainer: Mapping[str, Any], model: ModelConfig) -> None:
    """Return if TRL's `RewardConfig` takes the mapping and pairwright leaves its keys to the user.

    Raises:
        ValueError: it does not; one sentence that names the key and, for a typo, the nearest.
    """
    from dpo.reward_args import check_trainer_keys, trainer_args

    check_trainer_keys(trainer)
    cpu = device_of(model).type == "cpu"
    trainer_args(trainer, folder=Path(), seed=0, max_length=2, cpu=cpu, bf16=False)


def base_of(model: ModelConfig, config: RewardModelConfig) -> ModelConfig:
    """The model that the training starts from: `reward.base`, or the SFT model itself.

    Another base speaks its own template; date, system role, dtype and device are the SFT model's.
    """
    if config.base is None:
        return model
    return ModelConfig(
        path=config.base,
        dtype=model.dtype,
        device=model.device,
        date=model.date,
        system_role=model.system_role,
    )


def train_reward(
    dataset_folder: Path,
    model: ModelConfig,
    config: RewardModelConfig,
    *,
    out: Path,
    seed: int,
    max_length: int,
    agreement: LabelAgreement | None = None,
    progress: Progress | None = None,
) -> RewardResult:
    """The reward model trained on the dataset's training split, in `out/model`.

    `out` also gets the step log and the checkpoints. A run that was killed goes on from its last
    whole checkpoint and ends where an uninterrupted one ends; other data, weights, settings or
    number of processes start again. `agreement` says what is known of the labels, for the ceiling
    of the held-out accuracy; without it the ceiling comes from the pairs' p_chosen.

    Raises:
        ValueError: a setting, the data or the model does not allow the training that is asked for.
    """
    from accelerate.utils import broadcast_object_list

    from curation.formats.trl import read_dataset
    from curation.rewards.model import RewardModel
    from curation.rewards.scoring import length_limit, padding_id
    from dpo.reward_args import check_trainer_keys, trainer_args
    from dpo.reward_rows import read_comparisons, rows_hash, tokenise_comparisons
    from dpo.reward_start import load_reward_start, save_reward_model
    from dpo.trl_adapters.rewards import RewardPairTrainer, RewardStep

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
    base = base_of(model, config)
    chat = load_chat(base)
    splits = read_dataset(dataset_folder)
    comparisons = read_comparisons(splits.get("train", []))
    held_out = read_comparisons(splits.get("test", []))
    limit = min(max_length, length_limit(base) or max_length)
    tokenised = tokenise_comparisons(comparisons, chat, limit)
    rows = [_as_asked(row, config) for row in tokenised.kept]
    if not rows:
        raise ValueError(
            f"dataset '{dataset_folder}' has no pair of at most {limit} tokens to train on in its "
            f"train split, of {len(comparisons)} pairs"
        )
    if tokenised.quarantined:
        notes.append(
            f"TOO_LONG: {len(tokenised.quarantined)} of {len(comparisons)} pairs have an answer "
            f"that goes beyond {limit} tokens and are not trained on"
        )
    tokenizer = chat.tokenizer
    pad = padding_id(tokenizer, (ids[-1] for row in rows for ids in row[1:3]))
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.padding_side = "right"

    # The model, and what precision it can be trained in
    start = weights_hash(base)
    network, lora = load_reward_start(base, config.lora, seed)
    asked, full = bool(config.trainer.get("bf16")), config.lora is None
    if args.bf16 and (note := ties_note(network, "reward", full=full, asked=asked)):
        notes.append(note)
        args = args if asked else make_args(bf16=False)
    precision = f"{precision_of(network, bf16=args.bf16, fp16=args.fp16)}, head float32"

    # What a checkpoint must have been made with, to be gone on from
    device = args.device.type
    identity = content_hash(
        rows_hash(rows),
        [start, chat.hash, seed, precision, device, args.world_size],
        config.model_dump(mode="json"),
    )
    log = StepLog(out / "steps.jsonl", RewardStep)
    resume_from = prepare_folder(out, log, identity) if first else None
    (resume_from,) = broadcast_object_list([resume_from])
    folder = out / "model"
    if first and resume_from is None:
        shutil.rmtree(folder, ignore_errors=True)

    def on_step(record: RewardStep, total: int) -> None:
        # Under fp16 a gradient may overflow: the scaler then leaves out the step.
        grad_norm = None if args.fp16 else record.grad_norm
        check_finite(
            record.step, record.loss, grad_norm, section="reward", rows="pairs", log=log.path
        )
        if first:
            log.append(record)
            if progress is not None:
                progress(_step_text(record), record.step, total)

    def before_save() -> None:
        if first:
            log.sync()

    trainer = RewardPairTrainer(
        network,
        args,
        rows,
        tokenizer,
        peft_config=lora,
        on_step=on_step,
        before_save=before_save,
        after_save=seal,
    )
    trainable = trainable_parameters(trainer.model)
    parameters = trainer.model.num_parameters()
    outcome = trainer.train(resume_from_checkpoint=resume_from)
    if first:
        save_reward_model(trainer.accelerator.unwrap_model(trainer.model), tokenizer, folder)
    wait()
    del trainer, network

    # What the saved model makes of pairs that it has not seen
    steps = log.read()
    if (since := saturated_since(steps)) is not None:
        notes.append(
            f"SATURATED: from step {since} on every pair was right with a difference of rewards "
            "above 10; the pairs differ in something trivial, or the learning rate is far too high"
        )
    reward = RewardModel(str(folder), device=base.device)
    measured = _measure(reward, held_out, agreement)
    notes.extend(_notes(measured, comparisons, held_out))
    return RewardResult(
        model=folder,
        steps=steps,
        quarantined=tokenised.quarantined,
        facts={
            "base": config.base or "the SFT model",
            "confidence": {
                "used": config.confidence and any(row.has_confidence for row in rows),
                "requested": config.confidence,
                "pairs_below_one": sum(row.p_chosen < 1 for row in tokenised.kept),
                "weights_other_than_one": sum(row.weight != 1 for row in tokenised.kept),
            },
            "margin": {
                "scale": config.margin,
                "pairs_with_one": sum(row.margin > 0 for row in rows),
            },
            "center_rewards_coefficient": args.center_rewards_coefficient,
            "pairs": len(rows),
            "too_long_pairs": len(tokenised.quarantined),
            "max_length": limit,
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
            "parameters": parameters,
            "template": reward.template,
            "pad_token": tokenizer.pad_token,
            "start_weights": start,
            "weights": reward.weights,
            "resumed_from_step": 0 if resume_from is None else step_of(Path(resume_from)),
            "train_seconds": outcome.metrics["train_runtime"],
            "held_out": None if measured is None else measured.model_dump(mode="json"),
            "health": notes,
        },
    )


def _as_asked(row: "RewardRow", config: RewardModelConfig) -> "RewardRow":
    """The row with the confidence and the margin that the config lets into the loss."""
    margin = config.margin * row.margin
    if config.confidence:
        return row._replace(margin=margin)
    return row._replace(margin=margin, p_chosen=1.0, weight=1.0)


def _measure(
    reward: "RewardModel", pairs: "Sequence[Comparison]", agreement: LabelAgreement | None
) -> HeldOut | None:
    """What the reward says of the pairs; None where there are none."""
    from curation.rewards.weighted import checked_scores

    if not pairs:
        return None
    prompts = [pair.prompt for pair in pairs]
    answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    scores = checked_scores(reward, prompts * 2, answers)
    chosen, rejected = scores[: len(pairs)], scores[len(pairs) :]
    return measure(
        [
            ScoredPair(
                prompt_id=pair.prompt.id,
                chosen=of_chosen,
                rejected=of_rejected,
                chosen_length=len(pair.chosen.text),
                rejected_length=len(pair.rejected.text),
                p_chosen=pair.p_chosen,
            )
            for pair, of_chosen, of_rejected in zip(pairs, chosen, rejected, strict=True)
        ],
        agreement,
    )


def _notes(
    measured: HeldOut | None, trained: "Sequence[Comparison]", held_out: "Sequence[Comparison]"
) -> list[str]:
    if measured is None:
        return [
            "NOT_MEASURED: the dataset has no test split, so the model's accuracy is not known; "
            "validate.test_share holds pairs out"
        ]
    notes = measured.alarms()
    known = {pair.prompt.id for pair in trained}
    if seen := sum(pair.prompt.id in known for pair in held_out):
        notes.append(
            f"SHARED_PROMPTS: {seen} of {len(held_out)} held-out pairs have a prompt that is "
            "trained on, so their accuracy is no measure; split by prompt, as validate does"
        )
    return notes


def _step_text(record: "RewardStep") -> str:
    return f"loss {record.loss:.4f}, accuracy {record.rewards_accuracy or 0:.0%}"

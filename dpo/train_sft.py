"""Fine-tune a model on conversations, from files to the folder of a whole model.

The recipe: read conversations, render them with the model's chat template (one is set on a base
model that has none), mask what the assistant does not say, hold some out, train with TRL, resume
from the last whole checkpoint after a kill, merge the adapter, save the model with its tokenizer
and template, measure the held-out loss before and after.

Departures from the textbook:

- The loss of a step is the mean over its trained tokens, over all micro-batches and processes: a
  long answer counts for its length, wherever the batch is cut.
- A turn of the assistant is trained up to its end token and no further: a line break that the
  template writes behind it is never sampled.
- Weights are float32 and bf16, where used, is autocast: updates of 1e-6 vanish in bf16 weights.

With several processes (`torchrun --nproc_per_node 2 -m pairwright sft CONFIG`) every process calls
`train_sft`; the first alone writes, apart from the random state in a checkpoint, of which each
process has its own.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.models import device_of, weights_hash
from curation.prompts import QuarantinedRow
from curation.validation.split import split_of
from dpo.base_template import load_sft_chat
from dpo.checkpoints import prepare_folder, seal, step_of
from dpo.conversations import (
    ConversationTokens,
    check_trainable,
    ends_trained,
    read_conversations,
    tokenise_conversations,
    tokens_hash,
)
from dpo.launch import check_processes
from dpo.packing import Pack, best_fit
from dpo.policy import (
    bf16_by_default,
    load_start,
    merge,
    precision_of,
    save_policy,
    shape_notes,
    ties_note,
    trainable_parameters,
)
from dpo.sft_step import SftStep
from dpo.step_log import StepLog, check_finite
from schemas.configs import ConversationSource, ModelConfig, SftConfig
from schemas.records import content_hash
from schemas.run_folder import write_atomic

if TYPE_CHECKING:
    from dpo.trl_adapters.conversations import HeldOut

Progress = Callable[[str, int, int], None]
"""Called with what was just done, how many of it are done, and how many there are."""


class SftResult(NamedTuple):
    """A fine-tuned model, and how it was made."""

    policy: Path
    """The folder of a whole model, with its tokenizer and chat template."""
    steps: list[SftStep]
    facts: dict[str, Any]
    quarantined: list[QuarantinedRow]
    """The rows that were not trained on, each with its reason."""


def check_trainer(trainer: Mapping[str, Any], model: ModelConfig) -> None:
    """Return if TRL's `SFTConfig` takes the mapping and pairwright leaves its keys to the user.

    Raises:
        ValueError: it does not; one sentence that names the key and, for a typo, the nearest.
    """
    from dpo.sft_args import check_trainer_keys, trainer_args

    check_trainer_keys(trainer)
    trainer_args(trainer, folder=Path(), seed=0, cpu=device_of(model).type == "cpu", bf16=False)


def train_sft(
    sources: Sequence[ConversationSource],
    model: ModelConfig,
    config: SftConfig,
    *,
    out: Path,
    seed: int,
    progress: Progress | None = None,
) -> SftResult:
    """The model fine-tuned on the sources' conversations, in `out/policy`.

    `out` also gets the step log, the checkpoints and, where the model had none, its chat template.
    A run that was killed goes on from its last whole checkpoint and ends where an uninterrupted one
    ends; other data, weights, settings or number of processes start again.

    Raises:
        ValueError: a setting, the data or the model does not allow the training that is asked for.
    """
    from accelerate.utils import broadcast_object_list

    from curation.rewards.scoring import check_positions
    from dpo.sft_args import check_trainer_keys, trainer_args
    from dpo.trl_adapters.conversations import ConversationTrainer

    check_trainer_keys(config.trainer)
    cpu = device_of(model).type == "cpu"
    checkpoints = out / "checkpoints"

    def make_args(bf16: bool) -> Any:
        return trainer_args(config.trainer, folder=checkpoints, seed=seed, cpu=cpu, bf16=bf16)

    args = make_args(bf16=bf16_by_default(model, device_of(model)))
    check_processes(args.world_size)
    first = args.process_index == 0
    wait = args.distributed_state.wait_for_everyone
    notes: list[str] = []

    # The conversations
    read = read_conversations(sources)
    chat, given_template = load_sft_chat(model, plain=read.plain)
    tokenised = tokenise_conversations(read.rows, chat, config.max_length)
    quarantined = [*read.quarantined, *tokenised.quarantined]
    check_trainable(tokenised.rows, quarantined, config.max_length)
    check_positions(max(len(row.ids) for row in tokenised.rows), model, "sft.max_length")
    rows, held_out_rows = _split(tokenised.rows, seed, config.test_share)
    packs = None
    if config.trainer.get("packing"):
        packs = best_fit([len(row.ids) for row in rows], config.max_length)
    notes += _data_notes(rows, quarantined, chat.eos_ids, config.max_length)

    # The model, and what precision it can be trained in
    start = weights_hash(model)
    policy, lora = load_start(model, config.lora)
    asked, full = bool(config.trainer.get("bf16")), config.lora is None
    if args.bf16 and (note := ties_note(policy, "sft", full=full, asked=asked)):
        notes.append(note)
        args = args if asked else make_args(bf16=False)
    precision = precision_of(policy, bf16=args.bf16, fp16=args.fp16)
    device = args.device.type

    # What a checkpoint must have been made with, to be gone on from
    identity = content_hash(
        [tokens_hash(rows), packs],
        [start, chat.hash, seed, precision, device, args.world_size],
        config.model_dump(mode="json", exclude={"data"}),
    )
    log = StepLog(out / "steps.jsonl", SftStep)
    resume_from = prepare_folder(out, log, identity) if first else None
    (resume_from,) = broadcast_object_list([resume_from])

    def on_step(record: SftStep, total: int) -> None:
        # Under fp16 a gradient may overflow: the scaler then leaves out the step.
        grad_norm = None if args.fp16 else record.grad_norm
        check_finite(record.step, record.loss, grad_norm, section="sft", rows="rows", log=log.path)
        if first:
            log.append(record)
            if progress is not None:
                progress(f"loss {record.loss:.4f}", record.step, total)

    def before_save() -> None:
        if first:
            log.sync()

    trainer = ConversationTrainer(
        policy,
        args,
        rows,
        chat.tokenizer,
        packs=packs,
        peft_config=lora,
        on_step=on_step,
        before_save=before_save,
        after_save=seal,
    )
    if config.lora is not None and model.adapter is not None:
        notes += shape_notes(trainer.model, config.lora, "sft")
    trainable, parameters = trainable_parameters(trainer.model), trainer.model.num_parameters()
    # Before a checkpoint is loaded: the loss of the model that training starts from.
    before = trainer.held_out(held_out_rows) if held_out_rows else None
    outcome = trainer.train(resume_from_checkpoint=resume_from)
    after = trainer.held_out(held_out_rows) if held_out_rows else None

    whole = _merged(trainer.accelerator.unwrap_model(trainer.model))
    _stop_at(whole, chat.eos_ids)
    if given_template is not None:
        template = out / "chat_template.jinja"
        if first:
            write_atomic(template, given_template.encode())
        model = model.model_copy(update={"chat_template": template})
    folder = out / "policy"

    def write(unfinished: str) -> None:
        if first:
            whole.save_pretrained(unfinished)

    save_policy(write, folder, model, first)
    wait()

    steps = log.read()
    return SftResult(
        policy=folder,
        steps=steps,
        quarantined=quarantined,
        facts={
            "rows": {
                "read": len(read.rows) + len(read.quarantined),
                "trained": len(rows),
                "held_out": len(held_out_rows),
                "quarantined": len(quarantined),
                "repeated": len(rows) - len({row.row_id for row in rows}),
                "truncated": sum(row.truncated for row in rows),
            },
            "reasons": dict(sorted(Counter(row.code for row in quarantined).items())),
            "tokens": {
                "all": sum(len(row.ids) for row in rows),
                "trained": sum(row.trained for row in rows),
            },
            "ends_trained": ends_trained(rows, chat.eos_ids),
            "held_out": None if before is None or after is None else _loss_facts(before, after),
            "packing": None if packs is None else _packing_facts(rows, packs, config.max_length),
            "template": chat.hash,
            "template_set": given_template is not None,
            "loss_type": args.loss_type,
            "max_length": config.max_length,
            "steps": len(steps),
            "rows_a_step": (
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
            "start_weights": start,
            "weights": weights_hash(ModelConfig(path=str(folder))),
            "resumed_from_step": 0 if resume_from is None else step_of(Path(resume_from)),
            "train_seconds": outcome.metrics["train_runtime"],
            "health": notes,
        },
    )


def _split(
    rows: Sequence[ConversationTokens], seed: int, test_share: float
) -> tuple[list[ConversationTokens], list[ConversationTokens]]:
    """The rows to train on and those held out; rows that ask the same stay together.

    Raises:
        ValueError: every row is held out.
    """
    sides: dict[str, list[ConversationTokens]] = {"train": [], "test": []}
    for row in rows:
        sides[split_of(row.group, seed, test_share)].append(row)
    if not sides["train"]:
        raise ValueError(
            f"sft.test_share {test_share} holds out all {len(rows)} conversations; lower it"
        )
    return sides["train"], sides["test"]


def _data_notes(
    rows: Sequence[ConversationTokens],
    quarantined: Sequence[QuarantinedRow],
    eos_ids: frozenset[int],
    max_length: int,
) -> list[str]:
    notes = []
    if quarantined:
        reasons = Counter(row.code for row in quarantined).most_common()
        told = ", ".join(f"{code} {count}" for code, count in reasons)
        notes.append(f"QUARANTINED: {len(quarantined)} rows are not trained on ({told})")
    if truncated := sum(row.truncated for row in rows):
        notes.append(
            f"TRUNCATED: {truncated} of {len(rows)} conversations are trained on without their "
            f"end, which goes beyond sft.max_length {max_length}"
        )
    ends = ends_trained(rows, eos_ids)
    if ends is not None and ends < 1:
        notes.append(
            f"NO_EOS: in {1 - ends:.1%} of the conversations the last trained token is no "
            "end-of-sequence token, so the model does not learn to stop; write {{ eos_token }} "
            "after the assistant's content in the chat template"
        )
    return notes


def _merged(policy: Any) -> Any:
    """The whole model, an adapter merged into its float32 weights: bf16 ones would round it off."""
    return merge(policy.float()) if hasattr(policy, "merge_and_unload") else policy


def _stop_at(policy: Any, eos_ids: frozenset[int]) -> None:
    """Let whoever loads the model generate up to the end token that it was trained to write."""
    config = policy.generation_config
    stops = config.eos_token_id
    known = set(stops) if isinstance(stops, list) else set() if stops is None else {stops}
    if not eos_ids <= known:
        config.eos_token_id = sorted(known | eos_ids)


def _loss_facts(before: "HeldOut", after: "HeldOut") -> dict[str, Any]:
    return {
        "tokens": before.tokens,
        "loss_before": before.loss,
        "loss_after": after.loss,
        "perplexity_before": math.exp(before.loss),
        "perplexity_after": math.exp(after.loss),
    }


def _packing_facts(
    rows: Sequence[ConversationTokens], packs: Sequence[Pack], max_length: int
) -> dict[str, Any]:
    return {
        "packs": len(packs),
        "filled": sum(len(row.ids) for row in rows) / (len(packs) * max_length),
    }

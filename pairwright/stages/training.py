"""The dataset, DPO on it, and the evaluation of whichever policy the run trained."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairwright.plan import TRAINED, Plan
from pairwright.settings import STOP_RULES, evaluation_abstain, evaluation_rewards
from pairwright.stages.asked import askers_among, asking, forget_answers
from pairwright.stages.earlier import answers_of_start
from pairwright.stages.pipeline import Road
from pairwright.stages.sampling import check_judged
from pairwright.stages.sources import RefusedPrompt, askable
from pairwright.stored import StoredPrompts, columns
from schemas.arrow import to_table
from schemas.records import PreferencePair, Prompt, Record
from schemas.run_folder import Manifest, RunFolder, StageWriter, write_atomic

if TYPE_CHECKING:
    from curation.models import Policy


NOTHING_HELD_OUT = (
    "a policy that is trained online leaves no test split to evaluate on; give evaluate.prompts"
)


class ExportedPair(Record):
    """A pair that went into the dataset."""

    pair_id: str
    prompt_id: str
    split: str


def make_dataset(road: Road) -> Manifest:
    """The dataset that TRL reads, Parquet by split, and its card."""
    from curation.formats.trl import write_dataset

    stage, source = road.run.stage("export"), road.run.stage("validate")
    writer = road.begin("export", parts=1)
    fresh = stage.folder / ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    rows = write_dataset(source.read(PreferencePair), fresh)
    for file in sorted(fresh.iterdir()):
        with open(file, "rb") as written:
            os.fsync(written.fileno())
        os.replace(file, stage.folder / file.name)
    fresh.rmdir()
    write_atomic(stage.folder / "README.md", _card(road.run, rows).encode())
    exported = [
        ExportedPair(pair_id=row["id"], prompt_id=row["prompt"]["id"], split=row["split"])
        for row in columns(source, ["id", "prompt.id", "split"]).to_pylist()
    ]
    writer.commit(0, to_table(exported, ExportedPair))
    return writer.finish(counts={"in": len(exported), **rows})


def make_policy(road: Road) -> Manifest | None:
    """The policy trained on the dataset; None in all processes but the first."""
    from dpo.step_log import StepRecord
    from dpo.train_dpo import train_dpo

    config, stage = road.plan.config, road.run.stage("dpo")
    writer = begin_training(road, "dpo")
    with road.progress.task("dpo", "steps") as task:
        result = train_dpo(
            road.run.stage("export").folder,
            road.plan.model,
            config.dpo,
            out=stage.folder,
            seed=config.seed,
            max_length=config.gate.max_length,
            progress=lambda note, done, total: task.set(done, total, note),
        )
    if writer is None:
        return None
    tell_health(road, "dpo", result.facts)
    writer.commit(0, to_table(result.steps, StepRecord))
    return writer.finish(counts={"steps": len(result.steps)}, facts=result.facts)


def begin_training(road: Road, stage: str) -> StageWriter | None:
    """Who commits what the first process trains; None in the others.

    A training of another config or other inputs is not gone on from, whatever of it the recipe
    itself would notice: a reward's code, for one, is known here alone. Other stop rules are no
    reason to begin anew.
    """
    if rank() > 0:
        return None
    if road.plan.status(stage, outside=True, but=STOP_RULES).state == "stale":
        (road.run.stage(stage).folder / "training.json").unlink(missing_ok=True)
    return road.begin(stage, parts=1)


def tell_health(road: Road, stage: str, facts: dict[str, Any]) -> None:
    notes: Sequence[str] = facts.get("health", ())
    for note in notes:
        road.progress.line(f"{stage}: {note}")


def make_evaluation(road: Road) -> Manifest:
    """How the policy answers held-out prompts, compared with the SFT model."""
    from curation.rewards.weighted import build_reward
    from dpo.evaluate import evaluate
    from dpo.summary import EvaluationRecord

    config = road.plan.config
    rewards = evaluation_rewards(config)
    if not rewards:
        raise ValueError("no reward judges the policy; expected evaluate.rewards or rank.rewards")
    reward = build_reward(rewards, evaluation_abstain(config))
    if not config.evaluate.prompts and road.plan.policy_stage != "dpo":
        raise ValueError(NOTHING_HELD_OUT)
    base, policy = load_policies(road.plan)
    trained_on = _trained_on(road.plan)
    held_out, refused = _held_out(road, trained_on, base, policy)
    check_judged(reward, held_out, road.progress)
    writer, stage = road.begin("evaluate", parts=1), road.run.stage("evaluate")
    askers = askers_among(part.reward for part in reward.rewards)
    with asking(askers, stage) as meter, road.progress.task("evaluate", "answers") as task:
        result = evaluate(
            held_out,
            base,
            policy,
            reward,
            config.evaluate,
            seed=config.seed,
            train_prompts=trained_on,
            origin=_origin(road.plan, policy),
            base_answers=answers_of_start(road.plan, base, held_out),
            progress=task.set,
        )
    writer.commit(
        0,
        to_table(result.records, EvaluationRecord),
        quarantine=to_table(refused, RefusedPrompt),
        **meter.table(),
    )
    forget_answers(stage)
    return writer.finish(
        counts={"prompts": len(result.records), "quarantined": len(refused)},
        reasons=Counter(item.code for item in refused),
        facts=result.summary.model_dump(mode="json"),
    )


def load_policies(plan: Plan) -> tuple["Policy", "Policy"]:
    """The SFT model and the policy trained from it, or the one that the config names.

    An adapter on the plain SFT model shares its weights with it.

    Raises:
        ValueError: there is no policy.
    """
    from curation.models import load_policy, weights_hash

    chosen, start = plan.config.evaluate.policy, plan.model
    stage = plan.policy_stage
    folder = Path(chosen) if chosen else plan.run.stage(stage).folder / TRAINED[stage]
    if not chosen and not folder.exists():
        raise ValueError(
            f"run '{plan.run.path}' has no policy in '{folder}'; `pairwright {stage}` trains it"
        )
    if not (folder / "adapter_config.json").is_file():
        whole = {"path": chosen or str(folder), "adapter": None, "revision": None}
        return load_policy(start), load_policy(start.model_copy(update=whole))
    policy = load_policy(start.model_copy(update={"adapter": str(folder)}))
    if start.adapter is not None or not _comes_off(policy):
        return load_policy(start), policy
    base = policy._replace(weights=weights_hash(start), name=start.path)
    return base, policy


def _origin(plan: Plan, policy: "Policy") -> "Policy | None":
    """The model of `evaluate.origin`, not loaded anew where the policy's adapter lies on it."""
    from curation.models import load_policy, weights_hash

    origin = plan.config.evaluate.origin
    if origin is None:
        return None
    start = plan.model
    same = (origin.path, origin.revision) == (start.path, start.revision)
    if same and origin.adapter is None and _comes_off(policy):
        return policy._replace(weights=weights_hash(origin), name=origin.path)
    return load_policy(origin)


def _comes_off(policy: "Policy") -> bool:
    """Whether the policy without its adapter is the model below: trained biases stay in it."""
    adapters = getattr(policy.model, "peft_config", {}).values()
    return bool(adapters) and all(getattr(one, "bias", "none") == "none" for one in adapters)


def only_fine_tuned(plan: Plan) -> bool:
    """Whether the run has an SFT model of its own and, so far, no policy from it."""
    tuned, stage = plan.run.stage("sft").folder / TRAINED["sft"], plan.policy_stage
    trained = plan.run.stage(stage).folder / TRAINED[stage]
    asked = plan.config.sft is not None and not plan.config.evaluate.policy
    return asked and tuned.exists() and not trained.exists()


def load_fine_tuned(plan: Plan) -> tuple["Policy", "Policy"]:
    """The model that fine-tuning started from, and what it made.

    A base model without a template speaks the one that it was given.
    """
    from curation.models import load_policy

    start = plan.config.model
    given = plan.run.stage("sft").folder / "chat_template.jinja"
    if start.chat_template is None and given.exists():
        start = start.model_copy(update={"chat_template": given})
    return load_policy(start), load_policy(plan.model)


def rank() -> int:
    """The number of this process among those that torchrun started; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def process() -> str | None:
    """`k/n`: which of torchrun's processes this is; None without torchrun."""
    total = int(os.environ.get("WORLD_SIZE", "1"))
    return None if total == 1 else f"{rank()}/{total}"


def _held_out(
    road: Road, trained_on: Sequence[Prompt], base: "Policy", policy: "Policy"
) -> tuple[list[Prompt], list[RefusedPrompt]]:
    """The prompts to evaluate on, and what is left out: no prompt, trained on, or not askable."""
    from curation.prompts import load_prompts
    from curation.validation.split import leaks

    sources = road.plan.config.evaluate.prompts
    if sources:
        loaded = load_prompts(sources)
        prompts, unread = loaded.prompts, loaded.quarantined
    else:
        prompts, unread = _prompts_of(road.run, "test"), []
    refused = [
        RefusedPrompt(prompt_id=f"{row.source}, {row.row_id}", code=row.code, message=row.message)
        for row in unread
    ]
    leaked = set(leaks(trained_on, prompts).leaked)
    asks_same = "the policy was trained on a prompt that asks the same"
    refused += [
        RefusedPrompt(prompt_id=key, code="TRAINED_ON", message=asks_same) for key in sorted(leaked)
    ]
    held_out = [prompt for prompt in prompts if prompt.id not in leaked]
    for side in (base, policy):
        held_out, cannot = askable(held_out, side, road.plan.config.evaluate.max_new_tokens)
        refused += cannot
    if refused:
        read = len(prompts) + len(unread)
        road.progress.line(f"evaluate: {len(refused)} of {read} prompts are left out")
    return held_out, refused


def _trained_on(plan: Plan) -> list[Prompt]:
    """The prompts of the pairs, or all of the run's, that the policy was trained on."""
    if plan.policy_stage == "dpo":
        return _prompts_of(plan.run, "train")
    return list(plan.run.stage("prompts").read(Prompt))


def _prompts_of(run: RunFolder, split: str) -> list[Prompt]:
    """The prompts of the dataset's pairs in one split."""
    exported = columns(run.stage("export"), ["prompt_id", "split"]).to_pylist()
    wanted = dict.fromkeys(row["prompt_id"] for row in exported if row["split"] == split)
    return list(StoredPrompts(run.stage("prompts")).of(wanted).values())


def _card(run: RunFolder, rows: dict[str, int]) -> str:
    """The dataset's card, with what the run counted on the way to it."""
    from curation.formats.card import dataset_card

    names = ("prompts", "generate", "rank", "aggregate", "pair", "validate")
    stages = {name: run.stage(name).manifest() for name in names}
    made = {name: manifest for name, manifest in stages.items() if manifest is not None}
    counts = {name: manifest.counts for name, manifest in made.items()}
    hashes = {
        f"{name} {key}": digest
        for name, manifest in made.items()
        for key, digest in manifest.inputs.items()
        if key not in made
    }
    reasons: Counter[str] = Counter()
    for manifest in made.values():
        reasons.update(manifest.reasons)
    licences = columns(run.stage("prompts"), ["licence"])["licence"].unique().to_pylist()
    return dataset_card(
        run=run.path.name,
        rows=rows,
        hashes=hashes | {name: run.stage(name).digest() for name in made},
        funnel={
            "prompt rows read": counts["prompts"]["read"],
            "prompts": counts["prompts"]["prompts"],
            "candidates": counts["generate"]["candidates"],
            "proposed pairs": counts["pair"]["proposals"],
            "quarantined pairs": counts["validate"]["quarantined"],
            "pairs": sum(rows.values()),
        },
        reasons=reasons,
        licences=[licence for licence in licences if licence],
    )

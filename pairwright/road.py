"""Running the road: which stages to make, in what order, under which lock, and what must hold."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from pairwright.dry_run import planned_prompts
from pairwright.errors import CheckError
from pairwright.labels import asking
from pairwright.plan import ON_PAIRS, TRAINED, Plan
from pairwright.plugins import check_all, check_trainer
from pairwright.progress import Progress, Silent
from pairwright.settings import evaluation_abstain, evaluation_rewards, trained_here
from pairwright.stages import finetuning, labelling, online, pipeline, sampling, training
from pairwright.stages.pipeline import Road
from schemas.config_files import load_config
from schemas.configs import Config
from schemas.run_folder import Manifest, RunFolder, parse_shard, write_atomic

_MAKERS: dict[str, Callable[[Road], Manifest | None]] = {
    "prompts": sampling.make_prompts,
    "sft": finetuning.make_sft,
    "generate": sampling.make_candidates,
    "rank": pipeline.make_judgements,
    "label": labelling.make_labels,
    "aggregate": pipeline.make_rankings,
    "pair": pipeline.make_proposals,
    "validate": pipeline.make_pairs,
    "export": training.make_dataset,
    "reward": finetuning.make_reward,
    "dpo": training.make_policy,
    "grpo": online.make_grpo,
    "ppo": online.make_ppo,
    "evaluate": training.make_evaluation,
}

CONFIG_COPY = "config.yaml"
_ASK_PROMPTS = {"generate", "grpo", "ppo"}
"""Verbs that make the run's prompts too."""


class Made(NamedTuple):
    """What became of a stage."""

    stage: str
    outcome: Literal["made", "reused", "partial"]
    manifest: Manifest | None


def open_plan(
    config_file: Path, overrides: Sequence[str], *, run: Path | None, limit: int | None
) -> Plan:
    """What a config file asks of its run; the user's own modules beside it can be imported.

    Raises:
        ValueError: the config, or something that it names, is wrong.
    """
    config = load_config(config_file, overrides, as_=Config)
    find_modules_beside(config_file)
    if run is not None:
        config = config.model_copy(update={"run": run})
    check_all(config)
    if config.label is not None:
        asking.check_labels(config.label, config.aggregate)
    return Plan(config, RunFolder(config.run), limit=limit)


def find_modules_beside(config_file: Path) -> None:
    """Let the user's own modules, here or beside the config, be imported."""
    for folder in (Path.cwd(), config_file.resolve().parent):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def make_stage(
    plan: Plan, verb: str, progress: Progress, *, shard: str | None = None
) -> list[Made]:
    """One stage of the road, made or found unchanged; one that asks prompts makes them too.

    Raises:
        ValueError: a stage before it is missing or stale, or another process writes the run.
        CheckError: the data did not pass.
    """
    names = check_stage(plan, verb)
    if shard is not None:
        parse_shard(shard)
    if training.rank() > 0:
        _wait_for_prompts(plan, names)
        return [make(Road(plan, Silent()), verb)]
    with plan.run.writing(shard):
        road = Road(plan, progress, shard)
        if shard is None:
            keep_config(plan)
            return [make(road, name) for name in names]
        with road.alone():
            keep_config(plan)
            prompts = make(road, "prompts")
        return [prompts, make(road, "generate")]


def check_stage(plan: Plan, verb: str) -> list[str]:
    """The stages that the verb makes, once all that they need is there.

    Raises:
        ValueError: it is not.
        CheckError: it is, and did not pass.
    """
    _check_on_road(plan, verb)
    refuse_rounds(plan.run.path)
    if verb in TRAINED:
        check_trainer(plan.config, verb)
        if verb == "sft":
            finetuning.check_conversations(plan)
    elif _world_size() > 1:
        raise ValueError(f"'{verb}' runs in one process; torchrun is for {_listed(TRAINED)}")
    names = ["prompts", verb] if verb in _ASK_PROMPTS else [verb]
    for name in dict.fromkeys(above for made in names for above in plan.upstream(made)):
        if name not in names:
            check_data(plan, needs_complete(plan, name))
    _keep_full_run(plan, names)
    return names


def make_road(plan: Plan, progress: Progress) -> list[Made]:
    """The whole road and its report; what was made before and still holds is reused.

    Raises:
        ValueError: the config asks for something that cannot be; found before any model loads.
        CheckError: the data did not pass.
    """
    stages = check_road(plan)
    with plan.run.writing():
        keep_config(plan)
        road = Road(plan, progress)
        made = []
        for name in stages:
            made.append(make(road, name))
            if name == "validate":
                _check_splits(plan, made[-1].manifest)
        from pairwright.report.write import write_report

        write_report(plan.run, plan.run.path)
    return made


def check_road(plan: Plan) -> list[str]:
    """The stages of the whole road, once nothing in the config could stop it after hours.

    Raises:
        ValueError: something could.
    """
    from curation.rewards.weighted import build_reward

    config, on_pairs = plan.config, "pair" in plan.stages
    refuse_rounds(plan.run.path)
    if _world_size() > 1:
        raise ValueError(
            f"'run' runs in one process; torchrun is for the verbs {_listed(TRAINED)} alone"
        )
    if on_pairs and config.rank is None and config.label is None and config.pair.edit is None:
        raise ValueError(
            "nothing says which answers are better; expected the section 'rank' or 'label', or "
            "pair.edit"
        )
    for name in plan.stages:
        check_trainer(config, name)
    finetuning.check_conversations(plan)
    if plan.policy_stage != "dpo":
        online.check_online(plan)
    if not evaluation_rewards(config):
        raise ValueError("no reward judges the policy; expected evaluate.rewards or rank.rewards")
    if not config.evaluate.prompts and config.gate.test_share == 0:
        raise ValueError(
            "validate.test_share is 0 and evaluate.prompts is empty, so nothing is held out to "
            "evaluate on; set one of them"
        )
    if config.evaluate.prompts:
        from curation.prompts import load_prompts

        held_out = load_prompts(config.evaluate.prompts).prompts
        asked = evaluation_rewards(config)
        if not any(trained_here(config, reward) for reward in asked):
            reward = build_reward(asked, evaluation_abstain(config))
            try:
                sampling.check_judged(reward, held_out, Silent())
            except ValueError as error:
                raise ValueError(f"evaluate: {error}") from error
    if config.sft is not None and "rank" in plan.stages and config.rank and config.rank.rewards:
        # The stage that samples looks too, but here only after hours of fine-tuning.
        sampling.check_judged(build_reward(config.rank.rewards), planned_prompts(plan), Silent())
    _keep_full_run(plan, plan.stages)
    return plan.stages


def make(road: Road, name: str) -> Made:
    """The stage made, gone on with, or reused where it still holds.

    Raises:
        CheckError: the data did not pass.
    """
    status = road.plan.status(name, outside=True)
    if status.state == "complete":
        road.progress.line(f"{name}: unchanged, reused")
        made = Made(name, "reused", status.manifest)
    else:
        again = {"stale": f"made again, {status.why}", "partial": f"goes on, {status.why}"}
        road.progress.line(f"{name}: {again.get(status.state, 'begins')}")
        manifest = _MAKERS[name](road)
        made = Made(name, "partial" if manifest is None else "made", manifest)
    if made.manifest is not None:
        check_data(road.plan, made.manifest)
    return made


def check_data(plan: Plan, made: Manifest) -> None:
    """Return if what a stage found lets the road go on; a reused stage is checked again.

    Raises:
        CheckError: it does not.
    """
    counts = made.counts
    why = counted(made.reasons, names_first=False) or "no reason is stored"
    if made.stage == "prompts" and not counts["prompts"]:
        raise CheckError(f"the sources gave no prompt: {why}")
    if made.stage == "pair" and not counts["proposals"]:
        raise CheckError(f"none of {counts['prompts']} prompts gave a pair: {why}")
    if made.stage == "validate":
        allowed = plan.config.gate.max_quarantined
        kept_out, total = counts["quarantined"], counts["in"]
        if made.facts["refusal"]:
            raise CheckError(made.facts["refusal"])
        if kept_out > allowed * total:
            raise CheckError(
                f"{kept_out} of {total} pairs were quarantined, more than the share "
                f"validate.max_quarantined={allowed} allows: {why} "
                f"(rows in {plan.run.path / 'validate'}/quarantine-00000.parquet)"
            )


def _check_splits(plan: Plan, manifest: Manifest | None) -> None:
    counts = manifest.counts if manifest else {}
    if not counts.get("train"):
        why = counted(manifest.reasons, names_first=False) if manifest else ""
        raise CheckError(f"no pair is left to train on: {why or 'all are held out'}")
    if not counts.get("test") and not plan.config.evaluate.prompts:
        raise CheckError(
            f"none of {counts['train']} pairs fell into the test split, so nothing is held out to "
            "evaluate on; raise validate.test_share or give evaluate.prompts"
        )


def needs_complete(plan: Plan, name: str) -> Manifest:
    """The stage's manifest.

    Raises:
        ValueError: the stage is not complete.
    """
    status = plan.status(name, outside=False)
    if status.state != "complete" or status.manifest is None:
        asks = "generate" if "generate" in plan.stages else plan.policy_stage
        verb = {"prompts": asks, "label": "label pull"}.get(name, name)
        raise ValueError(
            f"stage '{name}' of run '{plan.run.path}' is {status.state} ({status.why}); "
            f"make it first with `pairwright {verb} CONFIG`, or all with `pairwright run CONFIG`"
        )
    return status.manifest


def holds_rounds(folder: Path) -> bool:
    """Whether the folder holds rounds, each a run of its own, and is no run itself."""
    return (folder / CONFIG_COPY).exists() and any(folder.glob(f"round-*/{CONFIG_COPY}"))


def refuse_rounds(folder: Path) -> None:
    """Return if the folder may be a run of its own.

    Raises:
        ValueError: it holds rounds.
    """
    if holds_rounds(folder):
        raise ValueError(
            f"'{folder}' holds rounds, each a run of its own: name one of them, such as "
            f"'{folder / 'round-1'}' or the {CONFIG_COPY} in it, go on with them by `pairwright "
            "rounds`, or give a new run another folder with --run DIR"
        )


def _keep_full_run(plan: Plan, names: Sequence[str]) -> None:
    """Refuse to put a trial with --limit over a run of all prompts."""
    before = plan.run.stage("prompts").manifest() if plan.limit and "prompts" in names else None
    if before is not None and before.config.get("limit") is None:
        raise ValueError(
            f"run '{plan.run.path}' holds a run without --limit, which --limit {plan.limit} would "
            "replace; give the trial a folder of its own with --run DIR"
        )


def keep_config(plan: Plan) -> None:
    """Store the config in force beside its output."""
    config = plan.config
    if config.label is not None:
        # A command about the run must find its answers wherever it is given from.
        folder = config.label.annotations.absolute()
        label = config.label.model_copy(update={"annotations": folder})
        config = config.model_copy(update={"label": label})
    data = config.model_dump(mode="json", by_alias=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode()
    file = plan.run.path / CONFIG_COPY
    if not file.exists() or file.read_bytes() != text:
        write_atomic(file, text)


def stored_plan(run: RunFolder, overrides: Sequence[str] = ()) -> Plan:
    """What the config that a run was last made with asks of it.

    Raises:
        ValueError: the run keeps no config.
    """
    file = run.path / CONFIG_COPY
    if not file.exists():
        raise ValueError(f"run '{run.path}' keeps no {CONFIG_COPY}; give the config file instead")
    config = load_config(file, overrides, as_=Config).model_copy(update={"run": run.path})
    prompts = run.stage("prompts").manifest()
    limit: Any = None if prompts is None else prompts.config.get("limit")
    return Plan(config, run, limit=limit)


def counted(numbers: Mapping[str, int], *, names_first: bool = True) -> str:
    """`in 6, out 5`, or `5 TIE, 1 CYCLE`."""
    return ", ".join(
        f"{name} {number}" if names_first else f"{number} {name}"
        for name, number in numbers.items()
    )


def _check_on_road(plan: Plan, verb: str) -> None:
    config, trained = plan.config, plan.policy_stage
    if verb in ("sft", "reward", "grpo", "ppo") and getattr(config, verb) is None:
        raise ValueError(f"the config has no section '{verb}', which says how it is done")
    if verb == "dpo" and trained != "dpo":
        raise ValueError(
            f"the config has a section '{trained}', which takes the place of dpo: a run trains one "
            "policy"
        )
    if verb in ON_PAIRS and verb not in plan.stages and trained != "dpo" and not config.reward:
        raise ValueError(
            f"'{verb}' is not on this config's road: {trained} needs prompts and a reward, and "
            "pairs only with a section 'reward', which trains a reward model on them"
        )


def _wait_for_prompts(plan: Plan, names: Sequence[str]) -> None:
    """Return once the first process, to which torchrun ties this one's life, has made them."""
    while "prompts" in names and plan.status("prompts", outside=False).state != "complete":
        time.sleep(0.1)


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}"


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))

"""What a command would do, without weights and without a trace on disk."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pairwright.plan import Plan
from pairwright.settings import online_section
from schemas.configs import GrpoConfig, LabelConfig, PpoConfig
from schemas.records import Prompt

if TYPE_CHECKING:
    from trl import GRPOConfig


class Step(NamedTuple):
    """What would become of one stage."""

    stage: str
    action: str
    """`reuse`, `go on`, `make` or `make again`."""
    why: str
    amount: str
    """How much work there is at most, where that is known beforehand."""


def planned_steps(plan: Plan, stages: Sequence[str]) -> list[Step]:
    """The steps in order; a stage that is made makes those after it."""
    steps: list[Step] = []
    remade: set[str] = set()
    amounts = _amounts(plan)
    for name in stages:
        causes = [above for above in plan.upstream(name) if above in remade]
        status = plan.status(name, outside=True)
        if status.state == "complete" and not causes:
            steps.append(Step(name, "reuse", "", ""))
            continue
        remade.add(name)
        why = f"'{causes[0]}' is made" if status.state == "complete" else status.why
        action = {"missing": "make", "partial": "go on"}.get(status.state, "make again")
        steps.append(Step(name, action, why, amounts.get(name, "")))
    return steps


def _amounts(plan: Plan) -> dict[str, str]:
    config = plan.config
    prompts = len(planned_prompts(plan))
    samples = prompts * config.generate.n
    tokens = samples * config.generate.max_new_tokens
    amounts = {
        "prompts": f"{prompts} prompts",
        "generate": f"{samples} sequences, at most {tokens} new tokens",
        "rank": f"at most {samples} candidates",
        "aggregate": f"{prompts} prompts",
        "pair": f"at most {samples} candidates",
    }
    section = online_section(config)
    if section is not None:
        amounts[plan.policy_stage] = _rollouts(plan, section, prompts)
    if config.label is not None:
        amounts["label"] = _labels(config.label, prompts, config.generate.n)
    if config.evaluate.prompts:
        from curation.prompts import load_prompts

        answers = 2 * config.evaluate.n * len(load_prompts(config.evaluate.prompts).prompts)
        tokens = answers * config.evaluate.max_new_tokens
        amounts["evaluate"] = f"{answers} sequences, at most {tokens} new tokens"
    return amounts


def answer_limit(section: GrpoConfig | PpoConfig) -> int:
    """Tokens that one rollout may have."""
    if isinstance(section, PpoConfig):
        return section.max_new_tokens
    from trl import GRPOConfig

    limit: int = section.trainer.get("max_completion_length") or GRPOConfig.max_completion_length
    return limit


def _rollouts(plan: Plan, section: GrpoConfig | PpoConfig, prompts: int) -> str:
    """What an online training samples at most: fewer where a rule ends it, or an answer itself."""
    if isinstance(section, PpoConfig):
        steps, rollouts = section.steps, section.rollouts
    else:
        steps, rollouts = _grpo_steps(plan, section, prompts)
    watch = section.watch
    answered = 1 + steps // watch.every - (watch.every == 1) if watch.every else 0
    tokens = (steps * rollouts + answered * watch.prompts) * answer_limit(section)
    watched = f", {answered} times held-out prompts" if answered else ""
    return f"{steps} steps of {rollouts} rollouts{watched}, at most {tokens} new tokens"


def grpo_prompts_a_step(plan: Plan, section: GrpoConfig) -> int:
    """How many prompts one process asks in a step."""
    from dpo.grpo_args import prompts_a_step

    return prompts_a_step(_grpo_args(plan, section))


def _grpo_steps(plan: Plan, section: GrpoConfig, prompts: int) -> tuple[int, int]:
    """Steps and rollouts a step, as TRL counts them in one process."""
    from dpo.grpo_args import prompts_a_step, updates_a_step

    args = _grpo_args(plan, section)
    if args.max_steps > 0:
        steps = args.max_steps // updates_a_step(args)
    else:
        steps = math.ceil(args.num_train_epochs * (prompts // prompts_a_step(args)))
    return steps, int(args.generation_batch_size)


def _grpo_args(plan: Plan, section: GrpoConfig) -> "GRPOConfig":
    from curation.models import device_of
    from dpo.grpo_args import trainer_args

    cpu = device_of(plan.config.model).type == "cpu"
    return trainer_args(section.trainer, folder=Path(), seed=0, cpu=cpu, bf16=False)


def _labels(config: LabelConfig, prompts: int, samples: int) -> str:
    """What people are asked at most: where every sample is another answer, and whole."""
    from curation.argilla.sharing import gold_count

    if config.kind == "ranking":
        a_prompt = 1 if samples > 1 else 0
    else:
        pairs = math.comb(samples, 2)
        a_prompt = min(pairs, config.pairs_a_prompt or pairs) * (2 if config.mirror else 1)
    records = prompts * a_prompt
    if config.gold is not None:
        records += gold_count(records, config.gold.rate)
    quotas = [group.quota for group in config.workspaces.values()]
    if None not in quotas:
        records = min(records, sum(quota for quota in quotas if quota is not None))
    judgements = records * config.overlap
    hours = judgements * config.seconds_an_answer / 3600
    people = {name for group in config.workspaces.values() for name in group.annotators}
    scripts = people & {script.name for script in config.simulated}
    if scripts == people:
        return f"at most {records} records, {judgements} simulated judgements"
    return f"at most {records} records, {judgements} judgements, {hours:.1f} hours"


def planned_prompts(plan: Plan) -> list[Prompt]:
    """The run's prompts as they are stored, or as they would be."""
    if plan.status("prompts", outside=True).state == "complete":
        return list(plan.run.stage("prompts").read(Prompt))
    from curation.prompts import load_prompts

    return load_prompts(plan.config.prompts).prompts[: plan.limit]

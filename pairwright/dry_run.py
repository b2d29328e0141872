"""What a command would do, without weights and without a trace on disk."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pairwright.plan import Plan
from schemas.configs import LabelConfig
from schemas.records import Prompt


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
    prompts = len(_prompts(plan))
    samples = prompts * config.generate.n
    tokens = samples * config.generate.max_new_tokens
    amounts = {
        "prompts": f"{prompts} prompts",
        "generate": f"{samples} sequences, at most {tokens} new tokens",
        "rank": f"at most {samples} candidates",
        "aggregate": f"{prompts} prompts",
        "pair": f"at most {samples} candidates",
    }
    if config.label is not None:
        amounts["label"] = _labels(config.label, prompts, config.generate.n)
    if config.evaluate.prompts:
        from curation.prompts import load_prompts

        answers = 2 * config.evaluate.n * len(load_prompts(config.evaluate.prompts).prompts)
        tokens = answers * config.evaluate.max_new_tokens
        amounts["evaluate"] = f"{answers} sequences, at most {tokens} new tokens"
    return amounts


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


def _prompts(plan: Plan) -> list[Prompt]:
    """The prompts as they are stored, or as they would be."""
    if plan.status("prompts", outside=True).state == "complete":
        return list(plan.run.stage("prompts").read(Prompt))
    from curation.prompts import load_prompts

    return load_prompts(plan.config.prompts).prompts[: plan.limit]

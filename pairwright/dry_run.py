"""What a command would do, without weights and without a trace on disk."""

from collections.abc import Sequence
from typing import NamedTuple

from pairwright.plan import Plan
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
    if config.evaluate.prompts:
        from curation.prompts import load_prompts

        answers = 2 * config.evaluate.n * len(load_prompts(config.evaluate.prompts).prompts)
        tokens = answers * config.evaluate.max_new_tokens
        amounts["evaluate"] = f"{answers} sequences, at most {tokens} new tokens"
    return amounts


def _prompts(plan: Plan) -> list[Prompt]:
    """The prompts as they are stored, or as they would be."""
    if plan.status("prompts", outside=True).state == "complete":
        return list(plan.run.stage("prompts").read(Prompt))
    from curation.prompts import load_prompts

    return load_prompts(plan.config.prompts).prompts[: plan.limit]

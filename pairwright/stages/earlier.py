"""What an earlier run's evaluation already sampled from the model that this run starts from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpo.summary import EvaluationRecord
from pairwright.plan import TRAINED, Plan
from schemas.configs import SamplingConfig
from schemas.records import Candidate, Prompt
from schemas.run_folder import RunFolder

if TYPE_CHECKING:
    from curation.models import Policy

_SAMPLED_WITH = {*SamplingConfig.model_fields, "n", "batch_size", "seed"} | {
    "dtype",
    "date",
    "system_role",
}
"""Settings of an evaluation that its samples depend on."""


def answers_of_start(
    plan: Plan, base: "Policy", prompts: Sequence[Prompt]
) -> dict[str, list[Candidate]] | None:
    """The answers by prompt id, where sampling them again would give the very same.

    That is where the run's SFT model is a policy that its own run evaluated on the same prompts,
    with the same weights, template, settings and seed. None in any other case.
    """
    trained = Path(plan.model.adapter or plan.model.path)
    stage = trained.parent.name
    if TRAINED.get(stage) != trained.name or stage == "sft":
        return None
    evaluated = RunFolder(trained.parent.parent).stage("evaluate")
    manifest = evaluated.manifest()
    if manifest is None or manifest.state != "complete" or not isinstance(manifest.config, dict):
        return None
    settings = plan.settings("evaluate")
    if any(manifest.config.get(key) != settings.get(key) for key in _SAMPLED_WITH):
        return None
    records = list(evaluated.read(EvaluationRecord))
    if [record.prompt.id for record in records] != [prompt.id for prompt in prompts]:
        return None
    answers = {
        record.prompt.id: [sample.candidate for sample in record.policy] for record in records
    }
    made_by = {
        (candidate.origin.weights, candidate.origin.template)
        for candidates in answers.values()
        for candidate in candidates
    }
    return answers if made_by == {(base.weights, base.chat.hash)} else None

"""The stages that fine-tune beside the policy's own: the SFT model, and a reward model on pairs."""

from collections import Counter

from pairwright.plan import Plan
from pairwright.stages.pipeline import Road
from pairwright.stages.training import begin_training, tell_health
from schemas.arrow import to_table
from schemas.run_folder import Manifest


def check_conversations(plan: Plan) -> None:
    """Return if what fine-tuning reads can be opened, so that what was trained before stays.

    Raises:
        ValueError: a source is missing, broken at its start or empty.
    """
    from curation.formats.files import open_rows

    section = plan.config.sft
    if section is None or plan.status("sft", outside=True).state == "complete":
        return
    for source in section.data:
        if next(open_rows(source.path, split=source.split).rows, None) is None:
            raise ValueError(f"sft.data '{source.path}' has no rows")


def make_sft(road: Road) -> Manifest | None:
    """The SFT model trained on conversations; None in all processes but the first."""
    from curation.prompts import QuarantinedRow
    from dpo.sft_step import SftStep
    from dpo.train_sft import train_sft

    config, section = road.plan.config, road.plan.config.sft
    if section is None:
        raise ValueError("the config has no section 'sft'; expected sft.data")
    writer = begin_training(road, "sft")
    with road.progress.task("sft", "steps") as task:
        result = train_sft(
            section.data,
            config.model,
            section,
            out=road.run.stage("sft").folder,
            seed=config.seed,
            progress=lambda note, done, total: task.set(done, total, note),
        )
    if writer is None:
        return None
    tell_health(road, "sft", result.facts)
    rows = result.facts["rows"]
    writer.commit(
        0,
        to_table(result.steps, SftStep),
        quarantine=to_table(result.quarantined, QuarantinedRow),
    )
    return writer.finish(
        counts={
            "read": rows["read"],
            "trained": rows["trained"],
            "held_out": rows["held_out"],
            "quarantined": rows["quarantined"],
            "steps": len(result.steps),
        },
        reasons=Counter(row.code for row in result.quarantined),
        facts=result.facts,
    )


def make_reward(road: Road) -> Manifest | None:
    """The reward model trained on the dataset; None in all processes but the first."""
    from curation.validation.row import Quarantined
    from dpo.train_reward import train_reward
    from dpo.trl_adapters.rewards import RewardStep

    config, section = road.plan.config, road.plan.config.reward
    if section is None:
        raise ValueError("the config has no section 'reward'")
    writer = begin_training(road, "reward")
    with road.progress.task("reward", "steps") as task:
        result = train_reward(
            road.run.stage("export").folder,
            road.plan.model,
            section,
            out=road.run.stage("reward").folder,
            seed=config.seed,
            max_length=config.gate.max_length,
            progress=lambda note, done, total: task.set(done, total, note),
        )
    if writer is None:
        return None
    tell_health(road, "reward", result.facts)
    writer.commit(
        0,
        to_table(result.steps, RewardStep),
        quarantine=to_table(result.quarantined, Quarantined),
    )
    return writer.finish(
        counts={
            "pairs": result.facts["pairs"],
            "quarantined": len(result.quarantined),
            "steps": len(result.steps),
        },
        reasons=Counter(row.code for row in result.quarantined),
        facts=result.facts,
    )

"""The stages that train the policy on its own answers, GRPO and PPO, under a reward."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pairwright.dry_run import answer_limit, grpo_prompts_a_step, planned_prompts
from pairwright.plan import Plan
from pairwright.plugins import build
from pairwright.progress import Silent, Task
from pairwright.settings import (
    OnlineReward,
    evaluation_rewards,
    online_reward,
    online_section,
    reward_folder,
    rewards_of_stage,
    trained_here,
)
from pairwright.stages.asked import askers_among, asking, forget_answers, tell_abstained
from pairwright.stages.pipeline import Road
from pairwright.stages.sampling import check_judged
from pairwright.stages.sources import RefusedPrompt, fitting
from pairwright.stages.training import NOTHING_HELD_OUT, begin_training, process, tell_health
from schemas.arrow import to_table
from schemas.configs import GrpoConfig, PpoConfig
from schemas.records import Prompt
from schemas.run_folder import Manifest

if TYPE_CHECKING:
    from curation.rewards.weighted import WeightedSum
    from dpo.online import OnlineResult
    from dpo.watch import Watch

Train = Callable[[Sequence[Prompt], "Watch", Task], "OnlineResult"]


def make_grpo(road: Road) -> Manifest | None:
    """The policy trained with GRPO; None in all processes but the first."""
    from dpo.group_judge import GroupJudge
    from dpo.train_grpo import train_grpo

    config, section = road.plan.config, road.plan.config.grpo
    if section is None:
        raise ValueError("the config has no section 'grpo'")
    asked = _asked(road.plan)
    judge, weighted = None, None
    reward: WeightedSum | GroupJudge
    if asked.judge is None:
        reward = weighted = _weighted(asked)
    else:
        judge = build(asked.judge.use, asked.judge.args, where="grpo.judge")
        reward = GroupJudge(judge)

    def train(prompts: Sequence[Prompt], watch: "Watch", task: Task) -> "OnlineResult":
        return train_grpo(
            prompts,
            road.plan.model,
            section,
            reward,
            watch=watch,
            out=road.run.stage("grpo").folder,
            seed=config.seed,
            progress=lambda note, done, total: task.set(done, total, note),
        )

    return _make(road, section, weighted, judge, train)


def make_ppo(road: Road) -> Manifest | None:
    """The policy trained with PPO; None in all processes but the first."""
    from dpo.train_ppo import train_ppo

    config, section = road.plan.config, road.plan.config.ppo
    if section is None:
        raise ValueError("the config has no section 'ppo'")
    reward = _weighted(_asked(road.plan))

    def train(prompts: Sequence[Prompt], watch: "Watch", task: Task) -> "OnlineResult":
        return train_ppo(
            prompts,
            road.plan.model,
            section,
            reward,
            watch=watch,
            out=road.run.stage("ppo").folder,
            seed=config.seed,
            progress=lambda note, done, total: task.set(done, total, note),
        )

    return _make(road, section, reward, None, train)


def check_online(plan: Plan) -> None:
    """Return if the reward can judge answers to the prompts, and what is watched is there.

    Raises:
        ValueError: they cannot be judged, or there is nothing to evaluate on or to watch.
    """
    from curation.rewards.weighted import build_reward

    if not plan.config.evaluate.prompts:
        raise ValueError(NOTHING_HELD_OUT)
    prompts = planned_prompts(plan)
    asked, section = _asked(plan), online_section(plan.config)
    _check_reward_model_is_asked(plan)
    # The run's own reward model cannot be asked before it is trained.
    ready = tuple(item for item in asked.rewards if not trained_here(plan.config, item))
    if ready:
        check_judged(_weighted(asked._replace(rewards=ready)), prompts, Silent())
    if isinstance(section, GrpoConfig):
        _check_grpo(plan, section, asked, len(prompts))
    watched = () if section is None else section.watch.rewards
    if section is not None and not any(trained_here(plan.config, item) for item in watched):
        _watch(plan, section, build_reward(watched) if watched else None, prompts)


def _check_reward_model_is_asked(plan: Plan) -> None:
    """With another run folder the config's path would still lead to the first run's model."""
    config, stage = plan.config, plan.policy_stage
    rewards = (*rewards_of_stage(config, stage), *evaluation_rewards(config))
    if config.reward is not None and not any(trained_here(config, item) for item in rewards):
        raise ValueError(
            f"the section 'reward' trains a model in '{reward_folder(config)}' that nothing asks; "
            f"expected it in {stage}.rewards, as curation.rewards.model:RewardModel with that "
            "path, or no section 'reward'"
        )


def _check_grpo(plan: Plan, section: GrpoConfig, asked: OnlineReward, prompts: int) -> None:
    """What the recipe would refuse too, but only after the stages before it."""
    if asked.judge is not None and section.watch.every:
        raise ValueError(
            f"grpo.watch.every is {section.watch.every}, but a judge compares answers of one group "
            "and has no reward for held-out prompts; set it to 0"
        )
    needed = grpo_prompts_a_step(plan, section)
    if prompts < needed:
        raise ValueError(
            f"DATASET_SMALLER_THAN_BATCH: a step of grpo asks {needed} prompts and the run has "
            f"{prompts}; give more prompts, or lower grpo.trainer's per_device_train_batch_size or "
            "gradient_accumulation_steps"
        )


def _make(
    road: Road,
    section: GrpoConfig | PpoConfig,
    reward: "WeightedSum | None",
    judge: object | None,
    train: Train,
) -> Manifest | None:
    """The stage made, for a reward or a judge."""
    from curation.rewards.weighted import build_reward
    from dpo.online import OnlineStep
    from dpo.rollouts import OnlineLog

    stage = road.plan.policy_stage
    stored = list(road.run.stage("prompts").read(Prompt))
    if reward is not None:
        check_judged(reward, stored, road.progress)
    prompts, refused = _askable(road.plan, stored, answer_limit(section))
    if refused:
        road.progress.line(f"{stage}: {len(refused)} of {len(stored)} prompts are left out")
    watched = build_reward(section.watch.rewards) if section.watch.rewards else None
    watch = _watch(road.plan, section, watched, stored, askable_only=True)
    sums = [one for one in (reward, watched) if one is not None]
    judging: list[tuple[str, object]] = [
        (part.name, part.reward) for one in sums for part in one.rewards
    ]
    if judge is not None:
        judging.insert(0, (str(getattr(judge, "name", type(judge).__name__)), judge))
    askers = askers_among(one for _, one in judging)
    writer = begin_training(road, stage)
    folder = road.run.stage(stage)
    with asking(askers, folder, process()) as meter, road.progress.task(stage, "steps") as task:
        result = train(prompts, watch, task)
    if writer is None:
        return None
    if result.facts.get("stopped"):
        road.progress.line(f"{stage}: ended early: {result.facts['stopped']}")
    tell_abstained(road.progress, stage, judging)
    tell_health(road, stage, result.facts)
    abstained_by = Counter(
        name
        for rollout in OnlineLog(folder.folder).read_rollouts()
        for name, score in rollout.components.items()
        if score is None
    )
    writer.commit(
        0,
        to_table(result.steps, OnlineStep),
        quarantine=to_table(refused, RefusedPrompt),
        **meter.table(),
    )
    forget_answers(folder)
    steps = result.steps
    counts = {
        "prompts": len(prompts),
        "quarantined": len(refused),
        "steps": len(steps),
        "rollouts": sum(len(step.prompt_ids) for step in steps),
        "abstained": sum(step.abstained for step in steps),
        "tokens": steps[-1].tokens if steps else 0,
    }
    return writer.finish(
        counts=counts,
        reasons=Counter(item.code for item in refused),
        facts={**result.facts, "abstained_by": dict(abstained_by)},
    )


def _asked(plan: Plan) -> OnlineReward:
    asked, stage = online_reward(plan.config), plan.policy_stage
    if asked is None or not (asked.rewards or asked.judge):
        raise ValueError(
            "NO_REWARD_FUNCTIONS: nothing says what an answer is worth; expected "
            f"{stage}.rewards or rank.rewards"
        )
    return asked


def _weighted(asked: OnlineReward) -> "WeightedSum":
    from curation.rewards.weighted import build_reward

    return build_reward(asked.rewards, asked.abstain)


def _watch(
    plan: Plan,
    section: GrpoConfig | PpoConfig,
    rewards: "WeightedSum | None",
    trained_on: Sequence[Prompt],
    *,
    askable_only: bool = False,
) -> "Watch":
    """What is watched: its rewards, and those held-out prompts that training does not ask."""
    from curation.prompts import load_prompts
    from curation.validation.split import leaks
    from dpo.watch import Watch

    config, held_out = section.watch, list[Prompt]()
    if config.every and plan.config.evaluate.prompts:
        loaded = load_prompts(plan.config.evaluate.prompts).prompts
        leaked = set(leaks(trained_on, loaded).leaked)
        held_out = [prompt for prompt in loaded if prompt.id not in leaked]
        if not held_out:
            raise ValueError(
                f"{plan.policy_stage}.watch.every is {config.every}, but all {len(loaded)} prompts "
                "of evaluate.prompts are trained on; give some that are not"
            )
    if held_out and askable_only:
        held_out, _ = _askable(plan, held_out, answer_limit(section))
    return Watch(config, rewards, held_out)


def _askable(
    plan: Plan, prompts: Sequence[Prompt], max_new_tokens: int
) -> tuple[list[Prompt], list[RefusedPrompt]]:
    """The prompts that the SFT model, which is not loaded yet, can be asked, and the rest."""
    from transformers import AutoConfig

    from curation.models import load_chat, model_folder

    model = plan.model
    config = AutoConfig.from_pretrained(model_folder(model), revision=model.revision)
    positions = getattr(config, "max_position_embeddings", None)
    return fitting(prompts, load_chat(model), max_new_tokens, positions)

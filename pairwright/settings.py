"""What the config says about each stage: what its files depend on, and which rewards it reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from schemas.configs import Config, GrpoConfig, LabelConfig, PpoConfig, RewardConfig

PolicyStage = Literal["dpo", "grpo", "ppo"]

STOP_RULES = ("watch.stop_kl", "watch.stop_on_drop", "watch.window")
"""Settings of an online stage that say when it ends, and change no number up to there."""


class OnlineReward(NamedTuple):
    """What a policy is trained online for: rewards summed by weight, or a judge."""

    rewards: tuple[RewardConfig, ...]
    judge: RewardConfig | None
    abstain: Literal["renormalise", "abstain"]


def sampling_seed(config: Config) -> int:
    """The seed of the candidates' samples."""
    own = config.generate.seed
    return config.seed if own is None else own


def policy_stage(config: Config) -> PolicyStage:
    """The stage that trains the run's policy."""
    return "grpo" if config.grpo is not None else "ppo" if config.ppo is not None else "dpo"


def online_section(config: Config) -> GrpoConfig | PpoConfig | None:
    return config.grpo or config.ppo


def online_reward(config: Config) -> OnlineReward | None:
    """What the policy is trained for: its section's own rewards or judge, else what ranks.

    None where the policy is trained on pairs.
    """
    section, rank = online_section(config), config.rank
    if section is None:
        return None
    own = bool(section.rewards or section.judge)
    rewards, judge = section.rewards, section.judge
    if not own and rank is not None:
        rewards, judge = rank.rewards, rank.judge
    return OnlineReward(rewards, judge, section.abstain or rank_abstain(config))


def evaluation_rewards(config: Config) -> tuple[RewardConfig, ...]:
    """The rewards that judge the policy: evaluate's own, or what trained it online, or ranked."""
    online = online_reward(config)
    if config.evaluate.rewards:
        return config.evaluate.rewards
    if online is not None:
        return online.rewards
    return config.rank.rewards if config.rank else ()


def evaluation_abstain(config: Config) -> Literal["renormalise", "abstain"]:
    online = online_reward(config)
    return online.abstain if online is not None else rank_abstain(config)


def rank_abstain(config: Config) -> Literal["renormalise", "abstain"]:
    return config.rank.abstain if config.rank else "renormalise"


def rewards_of_stage(config: Config, stage: str) -> tuple[RewardConfig, ...]:
    """Every reward that the stage asks, those that only watch among them."""
    section, online = online_section(config), online_reward(config)
    if stage == "rank":
        return config.rank.rewards if config.rank else ()
    if stage == "evaluate":
        return evaluation_rewards(config)
    if stage == policy_stage(config) and section is not None and online is not None:
        return (*online.rewards, *section.watch.rewards)
    return ()


def reward_folder(config: Config) -> Path:
    """Where the run's own reward model lies once it is trained."""
    return config.run / "reward" / "model"


def trained_here(config: Config, reward: RewardConfig) -> bool:
    """Whether the reward is the model that this run trains."""
    path = reward.args.get("path")
    if config.reward is None or not isinstance(path, str):
        return False
    return Path(path).expanduser().resolve().is_relative_to((config.run / "reward").resolve())


def stage_settings(config: Config, stage: str) -> dict[str, Any]:
    """The part of the config that the stage's files depend on.

    Raises:
        ValueError: there is no such stage.
    """
    model = config.model
    decoding = {"dtype": model.dtype, "date": model.date, "system_role": model.system_role}
    seed = {"seed": config.seed}
    match stage:
        case "prompts":
            return {"sources": [source.model_dump(mode="json") for source in config.prompts]}
        case "sft":
            return {**seed, **decoding, **_dumped(config.sft)}
        case "generate":
            return {**decoding, **_dumped(config.generate), "seed": sampling_seed(config)}
        case "rank":
            return _dumped(config.rank)
        case "label":
            return {} if config.label is None else _label_settings(config.label)
        case "aggregate":
            return {"question": config.aggregate.question}
        case "pair":
            return {**seed, **_dumped(config.pair)}
        case "validate":
            gate = config.gate.model_dump(mode="json", exclude={"max_quarantined"})
            return {**seed, **gate, "system_role": model.system_role, "date": model.date}
        case "export":
            return {}
        case "reward":
            max_length = {"max_length": config.gate.max_length}
            return {**seed, **decoding, **max_length, **_dumped(config.reward)}
        case "dpo":
            max_length = {"max_length": config.gate.max_length}
            return {**seed, "dtype": model.dtype, **max_length, **_dumped(config.dpo)}
        case "grpo" | "ppo":
            return {**seed, **decoding, **_online_settings(config)}
        case "evaluate":
            rewards = _rewards(evaluation_rewards(config))
            evaluate = _dumped(config.evaluate) | {"rewards": rewards}
            del evaluate["origin"]  # which counts by its weights, wherever it lies
            has_abstain = config.rank is not None or online_section(config) is not None
            abstain = {"abstain": evaluation_abstain(config)} if has_abstain else {}
            return {**seed, **decoding, **evaluate, **abstain}
    raise ValueError(f"no stage is called '{stage}'")


def _online_settings(config: Config) -> dict[str, Any]:
    section, online = online_section(config), online_reward(config)
    if section is None or online is None:
        return {}
    # How many rollouts a pass holds and how often it is saved change no number.
    kept = section.model_dump(mode="json", exclude={"microbatch", "save_steps"})
    watched = config.evaluate.prompts if section.watch.every else ()
    return {
        **kept,
        "rewards": _rewards(online.rewards),
        "judge": _dumped(online.judge),
        "abstain": online.abstain,
        "watched": [source.model_dump(mode="json") for source in watched],
    }


def _label_settings(label: LabelConfig) -> dict[str, Any]:
    """The part of the config that says what people were asked."""
    asked = {"dataset", "kind", "pairs_a_prompt", "overlap", "criteria", "mirror", "assisted"}
    return label.model_dump(mode="json", include=asked)


def _rewards(rewards: Sequence[RewardConfig]) -> list[Any]:
    return [_without_pace(reward.model_dump(mode="json")) for reward in rewards]


def _dumped(section: Any) -> dict[str, Any]:
    return {} if section is None else _without_pace(section.model_dump(mode="json"))


def _without_pace(value: Any) -> Any:
    """The value without what says how an endpoint is asked and changes no answer."""
    from curation.endpoints import OPERATIONAL

    if isinstance(value, list):
        return [_without_pace(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: {name: given for name, given in item.items() if name not in OPERATIONAL}
        if key == "endpoint" and isinstance(item, Mapping)
        else _without_pace(item)
        for key, item in value.items()
        if not (key in ("endpoint", "judge") and item is None)
    }

"""The user's objects that a config names, built from their arguments or refused in one sentence."""

import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pairwright.settings import online_reward, online_section, policy_stage, trained_here
from schemas.arrow import first_error
from schemas.config_files import unknown_key
from schemas.configs import Config, RewardConfig
from schemas.interfaces import RewardFunction
from schemas.records import Completion, Prompt
from schemas.resolve import resolve


def build(use: str, args: Mapping[str, Any], *, where: str) -> Any:
    """The object that `use` names: a class is called with args, a function gets them bound.

    Raises:
        ValueError: it cannot be imported, or the arguments do not fit it.
    """
    where = f"{where}: {use}"
    try:
        found = resolve(use)
    except ValueError as error:
        raise ValueError(f"{where.rpartition(': ')[0]}: {error}") from error
    if not callable(found):
        raise ValueError(f"{where}: it is no class or function")
    parameters = inspect.signature(found).parameters
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    unknown = [] if takes_any else sorted(set(args) - set(parameters))
    if unknown:
        raise ValueError(f"{where}: args: {unknown_key(unknown[0], parameters)}")
    if not isinstance(found, type):
        return functools.partial(found, **args) if args else found
    try:
        return found(**args)
    except ValidationError as error:
        raise ValueError(f"{where}: {first_error(error)}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def check_all(config: Config) -> None:
    """Refuse a config that names something that is not there or does not fit; no weights load.

    Raises:
        ValueError: the section and what is wrong in it.
    """
    from curation.endpoints import Endpoint

    rank, online, stage = config.rank, online_section(config), policy_stage(config)
    if config.generate.endpoint is not None:
        try:
            Endpoint(config.generate.endpoint)
        except ValueError as error:
            raise ValueError(f"generate: {error}") from error
    rewards = {
        "rank": rank.rewards if rank else (),
        "evaluate": config.evaluate.rewards,
        stage: online.rewards if online else (),
        f"{stage}.watch": online.watch.rewards if online else (),
    }
    for section, named in rewards.items():
        try:
            _check_rewards(config, named)
        except ValueError as error:
            raise ValueError(f"{section}: {error}") from error
    if rank is not None and any(trained_here(config, reward) for reward in rank.rewards):
        raise ValueError(
            "rank: the run's own reward model is trained on what is ranked here; expected another "
            "reward, or a model that another run trained"
        )
    if rank is not None and rank.judge is not None:
        _built_judge(rank.judge, "rank", needs="rank")
    if rank is not None and config.label is None:
        method = config.aggregate.method
        expected = "score" if rank.judge is None else "bradley-terry"
        what = "rewards" if rank.judge is None else "a judge's comparisons"
        if method not in (None, expected):
            raise ValueError(
                f"aggregate.method is '{method}', but {what} are what ranks; expected {expected}, "
                "or leave it out"
            )
    asked = online_reward(config)
    if stage == "ppo" and asked is not None and asked.judge is not None:
        raise ValueError(
            "ppo: a judge compares answers and gives none a value of its own; expected "
            "ppo.rewards, or a section 'grpo', which takes a judge"
        )
    if stage == "grpo" and asked is not None and asked.judge is not None:
        _built_judge(asked.judge, "grpo", needs="compare")
    if config.pair.edit:
        build(config.pair.edit, config.pair.edit_args, where="pair.edit")
    else:
        build(config.pair.strategy, config.pair.args, where="pair.strategy")


def check_trainer(config: Config, stage: str) -> None:
    """Return if TRL takes the `trainer` mapping of the stage's section, where it has one.

    Raises:
        ValueError: it does not.
    """
    trainer = getattr(getattr(config, stage, None), "trainer", None)
    if trainer is not None:
        importlib.import_module(f"dpo.train_{stage}").check_trainer(trainer, config.model)


def _built_judge(judge: RewardConfig, section: str, *, needs: str) -> Any:
    """The judge, if it has the method that is needed."""
    built = build(judge.use, judge.args, where=f"{section}.judge")
    if not hasattr(built, needs):
        raise ValueError(
            f"{section}.judge: '{judge.use}' has no `{needs}`; expected a judge such as "
            "curation.judges:PairwiseJudge"
        )
    return built


def _check_rewards(config: Config, rewards: Sequence[RewardConfig]) -> None:
    """Build the rewards; the run's own reward model, which may not be there yet, counts as such."""
    from curation.rewards.weighted import WeightedSum, build_reward

    def later(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        return [None for _ in completions]

    parts: list[tuple[RewardFunction, float, str]] = []
    for reward in rewards:
        if trained_here(config, reward):
            name = reward.name or reward.use.rpartition(":")[2]
            parts.append((later, reward.weight, name))
        else:
            parts += build_reward([reward]).rewards
    if parts:
        WeightedSum(parts)

"""The user's objects that a config names, built from their arguments or refused in one sentence."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from schemas.arrow import first_error
from schemas.configs import Config, unknown_key
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
    from curation.rewards.weighted import build_reward

    ranking = config.rank.rewards if config.rank else ()
    for section, rewards in (("rank", ranking), ("evaluate", config.evaluate.rewards)):
        if rewards:
            try:
                build_reward(rewards)
            except ValueError as error:
                raise ValueError(f"{section}: {error}") from error
    if config.pair.edit:
        build(config.pair.edit, config.pair.edit_args, where="pair.edit")
    else:
        build(config.pair.strategy, config.pair.args, where="pair.strategy")

"""Rewards added up by weight, and what every reward's scores are checked for."""

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import ValidationError

from schemas.arrow import first_error
from schemas.config_files import unknown_key
from schemas.configs import RewardConfig
from schemas.interfaces import FAULTS, RewardFunction
from schemas.records import Completion, Prompt
from schemas.resolve import resolve

if TYPE_CHECKING:
    from curation.chat import TemplateError

Kind = Literal["rule", "reward_model", "judge"]
Abstain = Literal["renormalise", "abstain"]

_BY_SAY: tuple[Kind, ...] = ("judge", "reward_model")
"""Whose opinion a sum is, the strongest word first."""


def checked_scores(
    reward: RewardFunction,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    *,
    name: str | None = None,
) -> list[float | None]:
    """The reward's scores, each a finite float or None.

    Raises:
        ValueError: the reward gave too few or too many scores, or one that is no finite number; or
            its code has a fault.
    """
    name = name or name_of(reward)
    if len(prompts) != len(completions):
        raise ValueError(
            f"reward '{name}': {len(prompts)} prompts but {len(completions)} completions; "
            "expected one prompt a completion"
        )
    try:
        answer: Any = reward(prompts, completions)
    except FAULTS as error:
        raise ValueError(
            f"reward '{name}' raised {type(error).__name__}: {error}; its code has to be mended "
            "(--debug shows where)"
        ) from error
    except Exception as error:
        error.add_note(f"in reward '{name}'")
        raise
    # A dict would give its keys, and a set its scores in an order of its own.
    if isinstance(answer, str | Mapping | Set) or not isinstance(answer, Iterable):
        raise ValueError(
            f"reward '{name}' gave {type(answer).__name__}; expected a list with one score a "
            "completion"
        )
    scores = list(answer)
    if len(scores) != len(completions):
        raise ValueError(
            f"reward '{name}': {len(completions)} completions but {len(scores)} scores; "
            "expected one score a completion"
        )
    return [
        _checked(score, name, row, prompt)
        for row, (score, prompt) in enumerate(zip(scores, prompts, strict=True))
    ]


def _checked(score: Any, name: str, row: int, prompt: Prompt) -> float | None:
    if getattr(score, "ndim", None) == 0:
        score = score.item()  # of an array or a tensor
    if score is None:
        return None
    is_number = isinstance(score, numbers.Real) and not isinstance(score, bool)
    value = _as_float(score) if is_number else math.nan
    if not math.isfinite(value):
        code = "NON_FINITE_REWARD: " if is_number else ""
        raise ValueError(
            f"{code}reward '{name}', row {row} (prompt '{prompt.id}'): the score is {score!r}; "
            "expected a finite number, or None to abstain"
        )
    return value


def _as_float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def name_of(reward: RewardFunction) -> str:
    """What reports call the reward: its `name`, else the name of its function or class."""
    own = getattr(reward, "name", None) or getattr(reward, "__name__", None)
    return str(own or type(reward).__name__)


def kind_of(reward: RewardFunction) -> Kind:
    """What the reward is, as annotator; a reward that does not say so is a rule."""
    kind = getattr(reward, "kind", "rule")
    return next((known for known in _BY_SAY if known == kind), "rule")


class Component(NamedTuple):
    reward: RewardFunction
    weight: float
    name: str


class WeightedSum:
    """The sum of weight times score over the rewards; itself a `RewardFunction`.

    Weights may be negative (a penalty). When some rewards abstain on an answer, `renormalise` takes
    the sum over those that answered, times (sum of |weight| over all) / (sum of |weight| over those
    that answered): the weighted mean of the answers on the scale of the full sum, so that an answer
    is not worse for being judged by fewer rewards. `abstain` abstains when any does. When all
    abstain, the sum abstains.

    Raises:
        ValueError: there is no reward, a weight is zero or not finite, or two have one name.
    """

    def __init__(
        self, rewards: Sequence[tuple[RewardFunction, float, str]], abstain: Abstain = "renormalise"
    ) -> None:
        self.rewards = [Component(*reward) for reward in rewards]
        if not self.rewards:
            raise ValueError(
                "NO_REWARD_FUNCTIONS: a weighted sum needs at least one reward; none is given"
            )
        if abstain not in ("renormalise", "abstain"):
            raise ValueError(f"abstain is '{abstain}'; expected 'renormalise' or 'abstain'")
        names = [component.name for component in self.rewards]
        for component in self.rewards:
            if component.weight == 0 or not math.isfinite(component.weight):
                raise ValueError(
                    f"reward '{component.name}': its weight is {component.weight}; expected a "
                    "finite number other than 0 (leave out a reward that is not to count)"
                )
            if names.count(component.name) > 1:
                raise ValueError(
                    f"two rewards are called '{component.name}'; give each a `name` of its own"
                )
        self._abstain = abstain
        self._total = math.fsum(abs(component.weight) for component in self.rewards)

    @property
    def name(self) -> str:
        return "+".join(component.name for component in self.rewards)

    @property
    def kind(self) -> Kind:
        """A judge's where a judge has a say, else a reward model's where one has."""
        kinds = {kind_of(component.reward) for component in self.rewards}
        return next((kind for kind in _BY_SAY if kind in kinds), "rule")

    def check(self, prompts: Sequence[Prompt]) -> "list[TemplateError]":
        """Why a reward model will abstain on some of the prompts: to be asked before sampling.

        Raises:
            ValueError: a reward cannot use what a prompt says about a right answer.
            TemplateError: a reward model's template renders none of the prompts.
        """
        from curation.chat import TemplateError

        unread: list[TemplateError] = []
        for prompt in prompts:
            try:
                for component in self.rewards:
                    if (check := getattr(component.reward, "check", None)) is not None:
                        check(prompt)
            except TemplateError as error:
                unread.append(error)
        if unread and len(unread) == len(prompts):
            raise unread[0]
        return unread

    def judges(self, prompt: Prompt) -> bool:
        """Whether an answer to the prompt can have a sum; a reward that does not say so judges."""
        able = [
            getattr(component.reward, "judges", lambda _: True)(prompt)
            for component in self.rewards
        ]
        return all(able) if self._abstain == "abstain" else any(able)

    def components(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> dict[str, list[float | None]]:
        """Each reward's own scores, unweighted, by its name.

        Raises:
            ValueError: a reward gave something that is no score.
        """
        return {
            component.name: checked_scores(
                component.reward, prompts, completions, name=component.name
            )
            for component in self.rewards
        }

    def combine(self, components: Mapping[str, Sequence[float | None]]) -> list[float | None]:
        """The sums of scores as `components` gives them.

        Raises:
            ValueError: a sum is beyond what a float holds.
        """
        columns = [components[component.name] for component in self.rewards]
        return [self._sum(scores) for scores in zip(*columns, strict=True)]

    def _sum(self, scores: Sequence[float | None]) -> float | None:
        weights = [component.weight for component in self.rewards]
        answered = [(w, s) for w, s in zip(weights, scores, strict=True) if s is not None]
        if not answered or (self._abstain == "abstain" and len(answered) < len(weights)):
            return None
        try:
            total = math.fsum(weight * score for weight, score in answered)
        except (OverflowError, ValueError):  # of two infinities, the latter
            total = math.inf
        if len(answered) < len(weights):
            total = total * self._total / math.fsum(abs(weight) for weight, _ in answered)
        if not math.isfinite(total):
            raise ValueError(
                f"NON_FINITE_REWARD: reward '{self.name}': the weighted sum of the scores "
                f"{list(scores)} is beyond what a float holds; scale the rewards down"
            )
        return total

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        return self.combine(self.components(prompts, completions))


def build_reward(configs: Sequence[RewardConfig], abstain: Abstain = "renormalise") -> WeightedSum:
    """The weighted sum that the config describes.

    A class in `use` is built with `args`; a function is the reward itself, with `args` as its
    keyword arguments.

    Raises:
        ValueError: a reward is not found, or `args` do not fit it.
    """
    rewards = []
    for config in configs:
        name = config.name or config.use.rpartition(":")[2]
        rewards.append((_built(config, f"reward '{name}'"), config.weight, name))
    return WeightedSum(rewards, abstain)


def _built(config: RewardConfig, where: str) -> RewardFunction:
    try:
        target = resolve(config.use)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not callable(target):
        raise ValueError(f"{where}: '{config.use}' is no class or function; expected a reward")
    if not inspect.isclass(target):
        _refuse_other_call(target, where)
    _refuse_misfit(target, config, where)
    reward: RewardFunction
    if not inspect.isclass(target):
        reward = partial(target, **config.args) if config.args else target
        return reward
    try:
        built: Any = target(**config.args)
    except (TypeError, ValueError) as error:
        detail = first_error(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"{where}: {detail}") from error
    if not callable(built):
        raise ValueError(
            f"{where}: a '{config.use}' cannot be called; expected "
            "__call__(prompts, completions) -> one score a completion"
        )
    _refuse_other_call(built, where)
    reward = built
    return reward


def _refuse_other_call(reward: Callable[..., Any], where: str) -> None:
    """Refuse what is to be called otherwise, as TRL's rewards are: completions come first there."""
    parameters = list(inspect.signature(reward).parameters.values())
    places = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if places[:1] == ["completions"] or (len(places) < 2 and not takes_any):
        taken = ", ".join(map(str, parameters))
        raise ValueError(
            f"{where}: it takes ({taken}); expected (prompts, completions), where each prompt "
            "holds its row's reference answer and tags"
        )


def _refuse_misfit(target: Callable[..., Any], config: RewardConfig, where: str) -> None:
    """Refuse args that the constructor does not take, or that it lacks."""
    parameters = list(inspect.signature(target).parameters.values())
    if not inspect.isclass(target):
        parameters = parameters[2:]  # prompts, completions
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters]
        for key in config.args:
            if key not in known:
                raise ValueError(f"{where}: args: {unknown_key(key, known)}")
    for parameter in parameters:
        variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        needed = parameter.default is parameter.empty and not variadic
        if needed and parameter.name not in config.args:
            raise ValueError(f"{where}: args: '{parameter.name}' is missing")

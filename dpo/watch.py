"""Watching a policy that trains online: what is measured beside the reward, what raises an alarm,
and what ends the training.

A reward is a stand-in for what is wanted. Trained against for long, it rises on while what it
stands for falls (Gao et al., 2023, "Scaling laws for reward model overoptimization"): to see that,
something that trains nothing has to be measured too.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.proportions import proportion
from dpo.online import OnlineStep
from schemas.configs import WatchConfig
from schemas.records import Completion, Prompt

if TYPE_CHECKING:
    from curation.rewards.weighted import WeightedSum

LARGE_KL = 0.5
"""Nats a token, a rule of thumb: beyond it answers should be read for repetition and nonsense."""
LENGTH_FACTOR = 2.0
ENTROPY_LEFT = 0.1
"""Share of the first window's entropy below which sampling hardly varies any more."""
EQUAL_STEPS = 3
"""Steps in a row without contrast that are an alarm."""
_FEWEST = 3
"""Values a window needs at least; with fewer there is no interval to speak of."""
_ALARM_LEVEL, _STOP_LEVEL = 0.95, 0.99
_EQUAL = 1e-9
"""Rewards that spread no more than this differ by rounding alone."""

Value = Callable[[OnlineStep], float | None]


class Change(NamedTuple):
    """How a mean over steps changed, with Welch's interval for unequal variances."""

    before: float
    after: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def rose(self) -> bool:
        return self.low > 0

    @property
    def fell(self) -> bool:
        return self.high < 0


class Gamed(NamedTuple):
    """The training reward rose from one window of steps to the last while a watched one fell."""

    watched: str
    since: tuple[int, int]
    """First and last step of the earlier window."""
    reward: Change
    fall: Change


class Watch:
    """The held-out rewards and prompts of a training, and the rules that end it.

    Raises:
        ValueError: held-out prompts are to be answered and there are none, or the rule on drops
            has nothing that could drop.
    """

    def __init__(
        self, config: WatchConfig, rewards: "WeightedSum | None", prompts: Sequence[Prompt]
    ) -> None:
        if config.every and not prompts:
            raise ValueError(
                f"watch.every is {config.every}, but there is no held-out prompt to answer; give "
                "evaluate.prompts"
            )
        if config.stop_on_drop and rewards is None and not config.every:
            raise ValueError(
                "watch.stop_on_drop has nothing to look at; give watch.rewards, or watch.every "
                "with evaluate.prompts"
            )
        self.config = config
        self.prompts = tuple(prompts[: config.prompts]) if config.every else ()
        """Answered at the steps that are `due`, by the policy that samples the step."""
        self._rewards = rewards

    @property
    def measured(self) -> list[Any]:
        """What the watched figures depend on; a curve that goes on must have begun with the same.

        The rules that end a training, and the window, are no part of it.
        """
        rewards = [] if self._rewards is None else self._rewards.rewards
        return [
            [reward.model_dump(mode="json") for reward in self.config.rewards],
            [[part.name, part.weight] for part in rewards],
            [self.config.every, [prompt.id for prompt in self.prompts]],
        ]

    def held_out_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> dict[str, list[float | None]]:
        """Each watched reward's own scores by its name; no reward is watched: empty."""
        if self._rewards is None:
            return {}
        return self._rewards.components(prompts, completions)

    def due(self, step: int) -> bool:
        """Whether the held-out prompts are answered at the step: at the first, for a start to
        compare with, and then at every so many."""
        return bool(self.prompts) and (step == 1 or step % self.config.every == 0)

    def stop(self, steps: Sequence[OnlineStep]) -> str | None:
        """Why training ends after the last of these steps; None: it goes on.

        The fall of a watched reward is looked at once a window only, and at 99 %: looked at often
        enough, chance alone would show one.
        """
        if not steps:
            return None
        last, config = steps[-1], self.config
        if config.stop_kl is not None and last.kl > config.stop_kl:
            return (
                f"step {last.step}: KL to the SFT model is {last.kl:.3g} nats a token, above "
                f"watch.stop_kl = {config.stop_kl:g}"
            )
        if config.stop_on_drop and last.step % config.window == 0:
            for gamed in _gamed(steps, config.window, _STOP_LEVEL):
                return f"step {last.step}: {_in_words(gamed)}"
        return None


def alarms(steps: Sequence[OnlineStep], window: int) -> list[str]:
    """What to worry about after these steps, one sentence each, gravest first.

    Windows at the start and the end are compared; where there are fewer steps than two windows,
    halves. Fewer than three steps a window raise no alarm.
    """
    return [
        *(
            f"OVEROPTIMISED: {_in_words(gamed)}; the policy games the reward: take an earlier "
            "checkpoint, raise the weight of the KL, or mend the reward"
            for gamed in _gamed(steps, window, _ALARM_LEVEL)
        ),
        *_high_kl(steps, window),
        *_collapsed_entropy(steps, window),
        *_drifted_length(steps, window),
        *_no_contrast(steps),
        *_not_judged(steps, window),
    ]


def change(
    steps: Sequence[OnlineStep], value: Value, window: int, level: float = _ALARM_LEVEL
) -> Change | None:
    """How the value's mean changed from the first window of steps that have it to the last.

    None where there are fewer than three such steps a window.
    """
    known = [found for step in steps if (found := value(step)) is not None]
    size = min(window, len(known) // 2)
    if size < _FEWEST:
        return None
    return _change(known[:size], known[-size:], level)


def _change(before: Sequence[float], after: Sequence[float], level: float) -> Change:
    """Windows in which nothing varies have an interval of no width."""
    from scipy.stats import ttest_ind

    mean_before, mean_after = sum(before) / len(before), sum(after) / len(after)
    difference = mean_after - mean_before
    if max(before) - min(before) <= _EQUAL and max(after) - min(after) <= _EQUAL:
        none = 0.0 if abs(difference) <= _EQUAL else difference
        return Change(mean_before, mean_after, none, none)
    with warnings.catch_warnings():
        # One window is constant: scipy warns of lost precision, and its interval is right.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = ttest_ind(after, before, equal_var=False)
        low, high = test.confidence_interval(level)
    return Change(mean_before, mean_after, float(low), float(high))


def _gamed(steps: Sequence[OnlineStep], window: int, level: float) -> Iterator[Gamed]:
    """The watched rewards that clearly fell while the training reward clearly rose.

    What falls has often risen first, so that the last window is compared with every earlier one:
    with k of them each interval is at 1 - (1 - level) / k, after Bonferroni. Of those with a fall,
    the one from where it is deepest.
    """
    for name, value in _watched(steps).items():
        known = [step for step in steps if step.reward is not None and value(step) is not None]
        size = min(window, len(known) // 2)
        if size < _FEWEST:
            continue
        last = known[-size:]
        starts = range(0, len(known) - 2 * size + 1, size)
        each = 1 - (1 - level) / len(starts)
        found = [
            Gamed(
                name,
                (earlier[0].step, earlier[-1].step),
                _between(earlier, last, lambda step: step.reward, each),
                _between(earlier, last, value, each),
            )
            for earlier in (known[start : start + size] for start in starts)
        ]
        falls = [gamed for gamed in found if gamed.reward.rose and gamed.fall.fell]
        if falls:
            yield min(falls, key=lambda gamed: gamed.fall.difference)


def _watched(steps: Sequence[OnlineStep]) -> dict[str, Value]:
    """How to read each reward that trained nothing, by what to call it."""
    names = sorted({name for step in steps for name in step.held_out_rewards})
    values: dict[str, Value] = {f"'{name}'": _held_out(name) for name in names}
    return {**values, "the reward on held-out prompts": lambda step: step.held_out_reward}


def _held_out(name: str) -> Value:
    return lambda step: step.held_out_rewards.get(name)


def _between(
    before: Sequence[OnlineStep], after: Sequence[OnlineStep], value: Value, level: float
) -> Change:
    def known(steps: Sequence[OnlineStep]) -> list[float]:
        return [found for step in steps if (found := value(step)) is not None]

    return _change(known(before), known(after), level)


def _in_words(gamed: Gamed) -> str:
    rise, fall = gamed.reward, gamed.fall
    return (
        f"since steps {gamed.since[0]} to {gamed.since[1]} the training reward rose by "
        f"{rise.difference:.3g} ({rise.low:.3g} to {rise.high:.3g}) while {gamed.watched} fell by "
        f"{-fall.difference:.3g} ({-fall.high:.3g} to {-fall.low:.3g})"
    )


def _high_kl(steps: Sequence[OnlineStep], window: int) -> Iterator[str]:
    last = steps[-window:]
    if len(last) < _FEWEST:
        return
    mean = sum(step.kl for step in last) / len(last)
    if mean > LARGE_KL:
        yield (
            f"KL_HIGH: the KL to the SFT model is {mean:.3g} nats a token in the last {len(last)} "
            f"steps, above {LARGE_KL:g}: read rollouts for repetition and nonsense, raise the "
            "weight of the KL or lower the learning rate"
        )


def _collapsed_entropy(steps: Sequence[OnlineStep], window: int) -> Iterator[str]:
    found = change(steps, lambda step: step.entropy, window)
    if found is not None and found.fell and found.after < ENTROPY_LEFT * found.before:
        yield (
            f"ENTROPY_COLLAPSE: the policy's entropy fell from {found.before:.3g} to "
            f"{found.after:.3g} nats a token, so that its answers hardly vary: lower the learning "
            "rate or raise the weight of the KL"
        )


def _drifted_length(steps: Sequence[OnlineStep], window: int) -> Iterator[str]:
    found = change(steps, lambda step: step.length, window)
    if found is None:
        return
    longer = found.rose and found.after > LENGTH_FACTOR * found.before
    shorter = found.fell and found.after * LENGTH_FACTOR < found.before
    if longer or shorter:
        yield (
            f"LENGTH_DRIFT: answers went from {found.before:.3g} to {found.after:.3g} tokens: see "
            "whether the reward pays for length, and compare rewards at equal length"
        )


def _no_contrast(steps: Sequence[OnlineStep]) -> Iterator[str]:
    in_a_row = 0
    for step in reversed(steps):
        if not _equal(step):
            break
        in_a_row += 1
    if in_a_row >= EQUAL_STEPS:
        yield (
            f"NO_CONTRAST: in the last {in_a_row} steps the rollouts to compare all have the same "
            "reward, so that they teach nothing: sample hotter or more, or use a finer reward"
        )


def _equal(step: OnlineStep) -> bool:
    return step.equal_groups == 1 or (step.reward_std is not None and step.reward_std <= _EQUAL)


def _not_judged(steps: Sequence[OnlineStep], window: int) -> Iterator[str]:
    last = steps[-window:]
    abstained = proportion(
        sum(step.abstained for step in last), sum(len(step.prompt_ids) for step in last)
    )
    if abstained.low is not None and abstained.low > 0.5:
        yield (
            f"NOT_JUDGED: no reward judged {abstained.count} of {abstained.of} rollouts of the "
            f"last {len(last)} steps, which teach nothing: see why the rewards abstain"
        )

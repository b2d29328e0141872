"""Alarms and stop rules on steps made by hand, and what they are silent about."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from curation.rewards.weighted import WeightedSum
from dpo.online import OnlineStep
from dpo.watch import Watch, alarms, change
from schemas.configs import WatchConfig
from schemas.records import Completion, Message, Prompt

WINDOW = 8
NOISE = (0.02, -0.01, 0.0, 0.01, -0.02, 0.015, -0.015, 0.0)
PROMPTS = [Prompt(messages=(Message(role="user", content=f"question {n}"),)) for n in range(20)]


def make_step(step: int, **values: Any) -> OnlineStep:
    """A step in which nothing is wrong, but for the values given."""
    usual = {
        "tokens": 100 * step,
        "prompt_ids": ("a", "a", "b", "b"),
        "reward": 0.5,
        "reward_std": 0.2,
        "kl": 0.02,
        "entropy": 2.0,
        "length": 40.0,
        "unfinished": 0.0,
        "loss": 0.0,
        "learning_rate": 1e-4,
        "grad_norm": 1.0,
    }
    return OnlineStep(step=step, **{**usual, **values})


def make_steps(count: int, **series: Callable[[int], Any]) -> list[OnlineStep]:
    """Steps 1 to count, with the named values as functions of the step from 0."""
    return [
        make_step(number + 1, **{name: value(number) for name, value in series.items()})
        for number in range(count)
    ]


def rising(number: int) -> float:
    return 0.2 + 0.02 * number + NOISE[number % 8]


def falling(number: int) -> dict[str, float | None]:
    return {"distinct": 0.9 - 0.02 * number + NOISE[(number + 3) % 8]}


def codes(steps: Sequence[OnlineStep], window: int = WINDOW) -> list[str]:
    return [text.partition(":")[0] for text in alarms(steps, window)]


def test_nothing_wrong_raises_no_alarm() -> None:
    assert alarms(make_steps(40), WINDOW) == []
    assert alarms([], WINDOW) == []


def test_reward_that_rises_while_a_watched_one_falls_is_over_optimised() -> None:
    steps = make_steps(24, reward=rising, held_out_rewards=falling)
    (alarm,) = alarms(steps, WINDOW)
    assert alarm.startswith("OVEROPTIMISED: since steps 1 to 8 the training reward rose by 0.32 (")
    assert "while 'distinct' fell by 0.32 (" in alarm


@pytest.mark.parametrize(
    ("reward", "watched"),
    [
        (rising, lambda n: {"distinct": 0.9 + NOISE[n % 8]}),  # it holds
        (rising, lambda n: {"distinct": rising(n)}),  # it rises too
        (lambda n: 0.5 + NOISE[n % 8], falling),  # training gained nothing
        (rising, lambda _: {"distinct": None}),  # it was never measured
        (rising, lambda _: {}),
        (lambda _: None, falling),
    ],
)
def test_only_a_rise_with_a_fall_is_over_optimised(
    reward: Callable[[int], float], watched: Callable[[int], dict[str, float | None]]
) -> None:
    assert codes(make_steps(24, reward=reward, held_out_rewards=watched)) == []


def test_a_watched_reward_that_rose_before_it_fell_is_seen() -> None:
    """What it was worth at the start and at the end is the same."""

    def hill(number: int) -> dict[str, float | None]:
        return {"gold": 0.5 - abs(number - 19.5) / 40 + NOISE[number % 8]}

    steps = make_steps(40, reward=rising, held_out_rewards=hill)
    (alarm,) = alarms(steps, WINDOW)
    assert "since steps 17 to 24 the training reward rose" in alarm
    whole = change(steps, lambda step: step.held_out_rewards["gold"], WINDOW)
    assert whole is not None
    assert whole.low < 0 < whole.high


def test_reward_on_held_out_prompts_is_watched_at_the_steps_that_have_it() -> None:
    def held_out(number: int) -> float | None:
        return None if number % 5 else 0.9 - 0.01 * number

    steps = make_steps(50, reward=rising, held_out_reward=held_out)
    (alarm,) = alarms(steps, WINDOW)
    assert "the reward on held-out prompts fell by 0.25" in alarm
    assert codes(steps[:25]) == []  # five values make no two windows of three


def test_noise_seldom_raises_the_alarm() -> None:
    """A rise and a fall at once are rarer than one in twenty by far."""
    rng = Random(0)
    raised = sum(
        bool(
            alarms(
                make_steps(
                    32,
                    reward=lambda _: rng.gauss(0, 1),
                    held_out_rewards=lambda _: {"watched": rng.gauss(0, 1)},
                ),
                WINDOW,
            )
        )
        for _ in range(200)
    )
    assert raised <= 2


def test_intervals_are_welchs() -> None:
    """Worked by hand, with Student's 97.5 % point at 4 degrees of freedom from a table."""
    steps = [
        make_step(number, reward=value)
        for number, value in enumerate((1.0, 2.0, 4.0, 5.0, 6.0, 8.0), start=1)
    ]
    found = change(steps, lambda step: step.reward, WINDOW)
    assert found is not None
    assert (found.before, found.after) == pytest.approx((7 / 3, 19 / 3))
    # Both variances are 7/3 over 3 values, so the standard error is sqrt(14/9).
    half = 2.776445 * (14 / 9) ** 0.5
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half), abs=1e-5)


def test_windows_that_do_not_vary_have_an_interval_of_no_width() -> None:
    steps = make_steps(16, reward=lambda n: 0.1 + 0.2 if n < 8 else 1.3)
    found = change(steps, lambda step: step.reward, WINDOW)
    assert found is not None
    assert found.low == found.high == pytest.approx(1.0)
    assert found.rose
    same = change(make_steps(16), lambda step: step.reward, WINDOW)
    assert same is not None
    assert not same.rose
    assert not same.fell


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_too_few_steps_have_no_change(count: int) -> None:
    steps = make_steps(count, reward=rising, held_out_rewards=falling, length=lambda n: 10.0**n)
    assert change(steps, lambda step: step.reward, WINDOW) is None
    assert codes(steps) == []


def test_large_kl_is_an_alarm() -> None:
    steps = make_steps(20, kl=lambda n: 0.05 * n)
    (alarm,) = alarms(steps, WINDOW)
    assert "KL_HIGH: the KL to the SFT model is 0.775 nats a token in the last 8 steps" in alarm
    assert codes(make_steps(20, kl=lambda _: 0.5)) == []
    assert codes(make_steps(20, kl=lambda n: 5.0 if n < 8 else 0.1)) == []
    assert codes(make_steps(2, kl=lambda _: 9.0)) == []


def test_answers_that_double_or_halve_in_length_are_an_alarm() -> None:
    (alarm,) = alarms(make_steps(16, length=lambda n: (20.0 if n < 8 else 41.0) + n / 8), WINDOW)
    assert alarm.startswith("LENGTH_DRIFT: answers went from 20.4 to 42.4 tokens")
    assert codes(make_steps(16, length=lambda n: 40.0 if n < 8 else 19.0)) == ["LENGTH_DRIFT"]
    assert codes(make_steps(16, length=lambda n: 40.0 if n < 8 else 21.0)) == []
    wild = (1.0, 90.0, 2.0, 80.0, 3.0, 400.0)
    assert codes(make_steps(6, length=lambda n: wild[n])) == []  # chance may explain it


def test_entropy_below_a_tenth_is_an_alarm() -> None:
    (alarm,) = alarms(make_steps(16, entropy=lambda n: 2.0 if n < 8 else 0.19), WINDOW)
    assert "ENTROPY_COLLAPSE: the policy's entropy fell from 2 to 0.19 nats a token" in alarm
    assert codes(make_steps(16, entropy=lambda n: 2.0 if n < 8 else 0.21)) == []


def test_equal_rewards_for_three_steps_are_an_alarm() -> None:
    (alarm,) = alarms(make_steps(9, equal_groups=lambda n: 1.0 if n >= 6 else 0.5), WINDOW)
    assert "NO_CONTRAST: in the last 3 steps" in alarm
    assert codes(make_steps(9, equal_groups=lambda n: 1.0 if n >= 7 else 0.5)) == []
    assert codes(make_steps(9, equal_groups=lambda n: 1.0 if n < 8 else 0.5)) == []
    assert codes(make_steps(9, reward_std=lambda _: 1.4e-17)) == ["NO_CONTRAST"]
    assert codes(make_steps(9, reward_std=lambda _: None)) == []


def test_a_loss_of_zero_is_no_alarm() -> None:
    """At the first update the ratios are 1 and the advantages of a group add up to 0."""
    assert codes(make_steps(20, loss=lambda _: 0.0)) == []


def test_rollouts_that_nobody_judged_are_an_alarm() -> None:
    (alarm,) = alarms(make_steps(20, abstained=lambda n: 3 if n >= 12 else 0), WINDOW)
    assert "NOT_JUDGED: no reward judged 24 of 32 rollouts of the last 8 steps" in alarm
    assert codes(make_steps(20, abstained=lambda _: 2)) == []  # half is not clearly most
    assert codes(make_steps(1, abstained=lambda _: 3)) == []


def test_training_stops_where_the_kl_passes_its_limit() -> None:
    watch = Watch(WatchConfig(stop_kl=0.3), None, ())
    steps = make_steps(10, kl=lambda n: 0.1 * n)
    assert watch.stop([]) is None
    assert [watch.stop(steps[:end]) for end in (1, 2, 3)] == [None, None, None]
    why = watch.stop(steps[:5])
    assert why == "step 5: KL to the SFT model is 0.4 nats a token, above watch.stop_kl = 0.3"
    assert Watch(WatchConfig(), None, ()).stop(steps) is None


def test_training_stops_where_a_watched_reward_has_clearly_fallen() -> None:
    watched = WeightedSum([(no_reward, 1.0, "distinct")])
    watch = Watch(WatchConfig(stop_on_drop=True), watched, ())
    steps = make_steps(40, reward=rising, held_out_rewards=falling)
    stops = [number for number in range(1, 41) if watch.stop(steps[:number])]
    assert stops[0] == 16  # two windows
    assert all(number % WINDOW == 0 for number in stops)
    why = watch.stop(steps[:16])
    assert why is not None
    assert why.startswith("step 16: since steps 1 to 8 the training reward rose by 0.16")
    assert Watch(WatchConfig(), watched, ()).stop(steps[:16]) is None
    holding = make_steps(40, reward=rising, held_out_rewards=lambda n: {"d": NOISE[n % 8]})
    assert watch.stop(holding) is None


def no_reward(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    return [None for _ in completions]


def test_held_out_prompts_are_answered_at_the_first_step_and_then_every_so_many() -> None:
    watch = Watch(WatchConfig(every=4, prompts=3), None, PROMPTS)
    assert watch.prompts == tuple(PROMPTS[:3])
    assert [step for step in range(1, 13) if watch.due(step)] == [1, 4, 8, 12]
    never = Watch(WatchConfig(), None, PROMPTS)
    assert not any(map(never.due, range(1, 13)))
    assert never.prompts == ()


def test_watched_rewards_score_and_abstain() -> None:
    watched = WeightedSum([(no_reward, 1.0, "silent")])
    completions = [Completion.from_text("yes"), Completion.from_text("no")]
    watch = Watch(WatchConfig(), watched, ())
    assert watch.held_out_rewards(PROMPTS[:2], completions) == {"silent": [None, None]}
    assert Watch(WatchConfig(), None, ()).held_out_rewards(PROMPTS[:2], completions) == {}


def test_a_watch_that_could_see_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"watch\.every is 4, but there is no held-out prompt"):
        Watch(WatchConfig(every=4), None, ())
    with pytest.raises(ValueError, match=r"watch\.stop_on_drop has nothing to look at"):
        Watch(WatchConfig(stop_on_drop=True), None, PROMPTS)

"""What rollouts are worth, and the files that keep them after kills."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from curation.rewards.weighted import WeightedSum
from dpo.online import OnlineStep, Rollout
from dpo.rollouts import OnlineLog, Scored, mean_of, means_of, scored
from dpo.watch import Watch
from schemas.arrow import from_table, to_table
from schemas.configs import WatchConfig
from schemas.records import Completion, Message, Prompt


def _step(step: int, rollouts: int = 2) -> OnlineStep:
    return OnlineStep(
        step=step,
        tokens=10 * step,
        prompt_ids=tuple(f"prompt-{number}" for number in range(rollouts)),
        reward=0.5,
        components={"rule": 0.5, "silent": None},
        kl=0.01,
        entropy=2.0,
        length=5.0,
        unfinished=0.0,
        loss=0.1,
        learning_rate=1e-4,
        grad_norm=1.0,
    )


def _rollouts(step: int, count: int = 2) -> list[Rollout]:
    return [
        Rollout(
            step=step,
            prompt_id=f"prompt-{number}",
            text=f"line one\nline two of {number} \u2028 é",
            tokens=5,
            finished=True,
            reward=None if number else 0.5,
            kl=0.05,
        )
        for number in range(count)
    ]


def _words(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    return [float(len(completion.text.split())) for completion in completions]


def _only_short(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    return [1.0 if len(completion.text) < 6 else None for completion in completions]


PROMPTS = [Prompt(messages=(Message(role="user", content=f"question {n}"),)) for n in range(3)]
COMPLETIONS = [Completion.from_text(text) for text in ("a b", "a longer answer", "ab")]


def test_a_rollout_has_its_total_its_parts_and_what_watches_it() -> None:
    reward = WeightedSum([(_words, 0.5, "words"), (_only_short, 1.0, "short")])
    watch = Watch(WatchConfig(), WeightedSum([(_words, 1.0, "watched")]), ())
    found = scored(reward, watch, PROMPTS, COMPLETIONS)
    # The second is judged by `words` alone: 0.5 * 3 on the scale of the full sum, times 1.5 / 0.5.
    assert found.totals == [2.0, 4.5, 1.5]
    assert found.components == {"words": [2.0, 3.0, 1.0], "short": [1.0, None, 1.0]}
    assert found.held_out == {"watched": [2.0, 3.0, 1.0]}
    assert means_of(found.components) == {"words": 2.0, "short": 1.0}


def test_what_abstained_is_in_no_mean_and_counted() -> None:
    found = Scored([1.0, None, 3.0], {}, {})
    assert (found.reward, found.abstained) == (2.0, 1)
    assert found.reward_std == pytest.approx(2**0.5)  # n - 1
    silent = Scored([None, None], {}, {})
    assert (silent.reward, silent.reward_std, silent.abstained) == (None, None, 2)
    assert Scored([1.0, None], {}, {}).reward_std is None
    assert mean_of([]) is None


def test_steps_and_rollouts_come_back_as_they_were(tmp_path: Path) -> None:
    log = OnlineLog(tmp_path)
    assert log.read_steps() == []
    assert list(log.read_rollouts()) == []
    log.cut(0)
    for step in (1, 2):
        log.append(_step(step), _rollouts(step))
    log.sync()
    assert log.read_steps() == [_step(1), _step(2)]
    assert list(log.read_rollouts()) == [*_rollouts(1), *_rollouts(2)]


def test_steps_and_rollouts_are_stored_whole() -> None:
    steps = [_step(1), _step(2).model_copy(update={"components": {}})]
    assert from_table(to_table(steps, OnlineStep), OnlineStep) == steps
    assert from_table(to_table(_rollouts(1), Rollout), Rollout) == _rollouts(1)


def test_a_resumed_training_finds_the_steps_of_its_checkpoint_and_no_others(tmp_path: Path) -> None:
    log = OnlineLog(tmp_path)
    for step in (1, 2, 3):
        log.append(_step(step), _rollouts(step))
    whole = log.path.read_bytes()
    log.cut(2)
    assert log.read_steps() == [_step(1), _step(2)]
    assert list(log.read_rollouts()) == [*_rollouts(1), *_rollouts(2)]
    log.append(_step(3), _rollouts(3))
    assert log.path.read_bytes() == whole
    log.cut(0)
    assert (log.read_steps(), list(log.read_rollouts())) == ([], [])


@pytest.mark.parametrize("lost", [1, 40, 300])
def test_lines_that_a_kill_cut_off_are_dropped(tmp_path: Path, lost: int) -> None:
    log = OnlineLog(tmp_path)
    log.append(_step(1), _rollouts(1))
    whole = log.path.read_bytes()
    with open(log.path, "ab") as file:
        torn = b"".join(rollout.model_dump_json().encode() + b"\n" for rollout in _rollouts(2))
        file.write(torn[:-lost])
    assert list(log.read_rollouts())[:2] == _rollouts(1)
    log.cut(1)
    assert log.path.read_bytes() == whole


def test_a_step_without_all_its_rollouts_is_told(tmp_path: Path) -> None:
    log = OnlineLog(tmp_path)
    log.append(_step(1), _rollouts(1))
    log.append(_step(2), _rollouts(2, count=1))
    with pytest.raises(ValueError, match="does not hold all rollouts of steps 1 to 2"):
        log.cut(2)
    log.cut(1)
    log.path.unlink()
    with pytest.raises(ValueError, match="does not hold all rollouts of steps 1 to 1"):
        log.cut(1)


def test_a_damaged_rollout_is_told_with_its_line(tmp_path: Path) -> None:
    log = OnlineLog(tmp_path)
    log.append(_step(1), _rollouts(1))
    log.path.write_bytes(log.path.read_bytes() + b"{}\n")
    with pytest.raises(ValueError, match=r"rollouts\.jsonl', line 3 is no rollout"):
        list(log.read_rollouts())

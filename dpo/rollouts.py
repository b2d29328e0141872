"""Rollouts: what each is worth, by the one reward interface, and the files that keep them."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from dpo.online import OnlineStep, Rollout
from dpo.step_log import StepLog
from schemas.arrow import first_error
from schemas.configs import SamplingConfig
from schemas.records import Completion, Prompt

if TYPE_CHECKING:
    from curation.rewards.weighted import WeightedSum
    from dpo.watch import Watch

Scores = list[float | None]


class Scored(NamedTuple):
    """Scores of rollouts, one a rollout; None where a reward abstained."""

    totals: Scores
    """The training reward."""
    components: dict[str, Scores]
    """Each reward's own scores, unweighted."""
    held_out: dict[str, Scores]
    """Scores of the watched rewards, which train nothing."""

    @property
    def abstained(self) -> int:
        return self.totals.count(None)

    @property
    def reward(self) -> float | None:
        """The mean over the rollouts that were judged."""
        return mean_of(self.totals)

    @property
    def reward_std(self) -> float | None:
        """With n - 1; None for fewer than two that were judged."""
        known = [score for score in self.totals if score is not None]
        return stdev(known) if len(known) > 1 else None


def scored(
    reward: "WeightedSum",
    watch: "Watch",
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
) -> Scored:
    """What each completion is worth to the rewards that train and to those that watch.

    Raises:
        ValueError: a reward gave something that is no score.
    """
    components = reward.components(prompts, completions)
    held_out = watch.held_out_rewards(prompts, completions)
    return Scored(reward.combine(components), components, held_out)


def mean_of(scores: Iterable[float | None]) -> float | None:
    """The mean of the scores that are not None; None where all are."""
    known = [score for score in scores if score is not None]
    return fmean(known) if known else None


def means_of(columns: Mapping[str, Iterable[float | None]]) -> dict[str, float | None]:
    return {name: mean_of(scores) for name, scores in columns.items()}


def off_policy(sampling: SamplingConfig) -> list[str]:
    """What to tell of settings that the log-probs, at the sampling temperature, do not know."""
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    used = [name for name, value in neutral.items() if getattr(sampling, name) != value]
    if not used:
        return []
    return [
        f"OFF_POLICY: answers are sampled with {' and '.join(used)}, while the log-probs that are "
        "compared are of the whole softmax; the KL is then an estimate from answers that the "
        "policy would give somewhat more rarely"
    ]


class OnlineLog:
    """`steps.jsonl` and `rollouts.jsonl` in a folder; only the first process writes them.

    A step is written after its rollouts, so one that is there has them all. Lines that a kill cut
    off, or that came after the checkpoint to go on from, are dropped by `cut`.
    """

    def __init__(self, out: Path) -> None:
        self.steps = StepLog(out / "steps.jsonl", OnlineStep)
        """Given to `prepare_folder`, after which `cut` brings the rollouts to the same step."""
        self.path = out / "rollouts.jsonl"

    def append(self, step: OnlineStep, rollouts: Iterable[Rollout]) -> None:
        with open(self.path, "ab") as file:
            for rollout in rollouts:
                file.write(rollout.model_dump_json().encode() + b"\n")
        self.steps.append(step)

    def sync(self) -> None:
        """Put the lines on the disk itself, before a checkpoint counts on them."""
        with open(self.path, "ab") as file:
            os.fsync(file.fileno())
        self.steps.sync()

    def cut(self, step: int) -> None:
        """Drop what came after `step`, which a resumed run makes again.

        Raises:
            ValueError: a step up to `step`, or a rollout of one, is missing.
        """
        self.steps.cut(step)
        missing = Counter({record.step: len(record.prompt_ids) for record in self.read_steps()})
        end = 0
        for rollout, after in self._rollouts():
            if rollout.step > step:
                break
            missing[rollout.step] -= 1
            end = after
        if any(missing.values()):
            raise ValueError(
                f"'{self.path}' does not hold all rollouts of steps 1 to {step}, which the "
                "checkpoint has behind it; delete the folder that holds it to train again"
            )
        with open(self.path, "ab") as file:
            file.truncate(end)
            os.fsync(file.fileno())

    def read_steps(self) -> list[OnlineStep]:
        return self.steps.read()

    def read_rollouts(self) -> Iterator[Rollout]:
        """The rollouts in the order in which they were made; none where there is no file.

        Raises:
            ValueError: a line before the last is damaged.
        """
        return (rollout for rollout, _ in self._rollouts())

    def _rollouts(self) -> Iterator[tuple[Rollout, int]]:
        """Each whole line's rollout, and where in the file the line ends."""
        if not self.path.exists():
            return
        end = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                try:
                    yield Rollout.model_validate_json(line), end
                except ValidationError as error:
                    raise ValueError(
                        f"'{self.path}', line {number} is no rollout ({first_error(error)}); "
                        "delete the folder that holds it to train again"
                    ) from None

"""What online training does with a reward turned round, one thing at a time: a law must notice."""

from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import pytest

from dpo.rollouts import Scored
from pairwright.progress import Silent
from pairwright.selftest.online import examine_online
from pairwright.selftest.planted_run import one_thread


class Mutation(NamedTuple):
    name: str
    stage: str
    target: str
    """`module:name`."""
    turned: Callable[[Any], Any]
    """From the original to the mutant."""


def _scores(change: Callable[[Sequence[float | None]], list[float | None]]) -> Any:
    """A change of the totals that a training is given."""

    def turned(original: Callable[..., Scored]) -> Callable[..., Scored]:
        def mutant(*arguments: Any) -> Scored:
            found = original(*arguments)
            return found._replace(totals=change(found.totals))

        return mutant

    return turned


def _zero_for_none(totals: Sequence[float | None]) -> list[float | None]:
    return [score or 0.0 for score in totals]


def _of_the_next(totals: Sequence[float | None]) -> list[float | None]:
    return [*totals[1:], *totals[:1]]


def _against(original: Any) -> Any:
    return lambda logps, old_logps, advantages, mask, clip: original(
        logps, old_logps, -advantages, mask, clip
    )


MUTATIONS = [
    Mutation(
        "an abstention counts as zero in GRPO",
        "grpo",
        "dpo.train_grpo:scored",
        _scores(_zero_for_none),
    ),
    Mutation(
        "scores go to the next rollout in GRPO",
        "grpo",
        "dpo.train_grpo:scored",
        _scores(_of_the_next),
    ),
    Mutation(
        "an abstention counts as zero in PPO",
        "ppo",
        "dpo.ppo_rollouts:scored",
        _scores(_zero_for_none),
    ),
    Mutation(
        "the worse answer of a group has the advantage",
        "grpo",
        "dpo.trl_adapters.groups:advantages",
        lambda original: lambda *arguments: -original(*arguments),
    ),
    Mutation(
        "a group's advantages go to other prompts",
        "grpo",
        "dpo.trl_adapters.groups:advantages",
        lambda original: lambda *arguments: original(*arguments).roll(1, 0),
    ),
    Mutation("PPO learns the worse answers", "ppo", "dpo.ppo_update:clipped_policy_loss", _against),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_of_online_training_breaks_a_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutation: Mutation
) -> None:
    module, _, path = mutation.target.partition(":")
    owner = resolve_name(module)
    monkeypatch.setattr(owner, path, mutation.turned(getattr(owner, path)))

    with one_thread():
        laws = examine_online(tmp_path, Silent(), stages=[mutation.stage])

        assert next((law for law in laws if not law.holds), None) is not None

"""Rollouts of a PPO step: asked, sampled, judged and measured, the work shared out over processes.

Every process comes away with all the rollouts. What a rollout is depends on the seed, the prompts
and the number of processes, and on no random state.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from curation.generators import TransformersGenerator
from curation.models import Policy
from curation.rewards.weighted import WeightedSum
from dpo.rollouts import scored
from dpo.watch import Watch
from schemas.configs import PpoConfig
from schemas.records import Completion, Prompt, content_hash

if TYPE_CHECKING:
    from dpo.policy import FrozenStart
    from dpo.value_model import PolicyWithValue, TokenRow

_DECODED_TOGETHER = 128
"""Answers that a process decodes at once, at most."""

T = TypeVar("T")
R = TypeVar("R")


class Sampled(NamedTuple):
    prompt: Prompt
    completion: Completion


class Worth(NamedTuple):
    """What one answer is worth."""

    reward: float | None
    """None where no reward judged it."""
    components: dict[str, float | None]
    held_out: dict[str, float | None]


class TokenScores(NamedTuple):
    """What is said about the tokens of one answer before the updates: a number a token."""

    logps: list[float]
    ref_logps: list[float]
    values: list[float]
    entropies: list[float]

    @property
    def kl(self) -> float:
        """Sum over the tokens of log(policy / SFT model), nats."""
        return sum(self.logps) - sum(self.ref_logps)


def prompts_of_step(prompts: Sequence[Prompt], step: int, size: int, seed: int) -> list[Prompt]:
    """What step number `step` asks, from 1.

    The prompts come round and round, in a new order each time; a step that the end of a round cuts
    short goes on into the next.
    """
    asked: list[Prompt] = []
    for place in range((step - 1) * size, step * size):
        round_, at = divmod(place, len(prompts))
        if at == 0 or not asked:
            order = list(range(len(prompts)))
            Random(seed_of(seed, "prompts", round_)).shuffle(order)
        asked.append(prompts[order[at]])
    return asked


def sample(
    policy: Policy, config: PpoConfig, prompts: Sequence[Prompt], *, n: int, seed: int
) -> list[Sampled]:
    """n answers to each prompt, in an order of its own."""
    from accelerate import PartialState

    processes = PartialState().num_processes
    size = min(-(-len(prompts) * n // processes), _DECODED_TOGETHER)

    def generator(seed: int) -> TransformersGenerator:
        return TransformersGenerator(policy, config, batch_size=size, seed=seed)

    def answers(batches: list[tuple[int, list[Prompt]]]) -> list[list[list[Completion]]]:
        # The batch's number in the seed: two batches may hold the same prompts.
        return [generator(seed_of(seed, number)).samples(batch, n=n) for number, batch in batches]

    batches = generator(seed).plan(prompts, n=n)
    answered = shared_out(list(enumerate(batches)), answers)
    return [
        Sampled(prompt, completion)
        for batch, found in zip(batches, answered, strict=True)
        for prompt, completions in zip(batch, found, strict=True)
        for completion in completions
    ]


def judge(reward: WeightedSum, watch: Watch, answers: Sequence[Sampled]) -> list[Worth]:
    """What each answer is worth, by the reward that trains and by those that watch."""

    def worths(mine: list[Sampled]) -> list[Worth]:
        prompts = [answer.prompt for answer in mine]
        found = scored(reward, watch, prompts, [answer.completion for answer in mine])

        def of(columns: dict[str, list[float | None]], row: int) -> dict[str, float | None]:
            return {name: scores[row] for name, scores in columns.items()}

        return [
            Worth(total, of(found.components, row), of(found.held_out, row))
            for row, total in enumerate(found.totals)
        ]

    return shared_out(answers, worths)


def penalised(answer: Sampled, worth: Worth, penalty: float) -> float | None:
    """The reward, less the penalty where the answer has no end: a prompt's ends do not count."""
    unfinished = answer.completion.finish_reason == "length"
    return None if worth.reward is None else worth.reward - penalty * unfinished


def measure(
    model: "PolicyWithValue", start: "FrozenStart", rows: "Sequence[TokenRow]", *, microbatch: int
) -> list[TokenScores]:
    """What policy, SFT model and value head say about each row's answer."""
    import torch

    from dpo.losses import entropy
    from dpo.value_model import padded

    def scores(mine: "list[TokenRow]") -> list[TokenScores]:
        measured = []
        for first in range(0, len(mine), microbatch):
            chunk = mine[first : first + microbatch]
            batch = padded(chunk, model.policy.device)
            with torch.no_grad():
                said = model(batch)
                with start.weights() as reference:
                    ref_logps = model.logps_under(reference, batch)
                entropies = entropy(said.logits)
            tables = (said.logps, ref_logps, said.values, entropies)
            columns = [table.tolist() for table in tables]
            for at, row in enumerate(chunk):
                length = len(row.completion_ids)
                measured.append(TokenScores(*(column[at][:length] for column in columns)))
        return measured

    return shared_out(rows, scores)


def seed_of(*parts: object) -> int:
    return int(content_hash(*parts)[:15], 16)


def shared_out(items: Sequence[T], do: Callable[[list[T]], Sequence[R]]) -> list[R]:
    """What `do` makes of the items, one result an item in their order; each process does a part."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState()
    mine = range(len(items))[state.process_index :: state.num_processes]
    done = do([items[at] for at in mine]) if mine else []
    everyone: list[tuple[int, R]] = gather_object(list(zip(mine, done, strict=True)))
    return [result for _, result in sorted(everyone, key=lambda pair: pair[0])]

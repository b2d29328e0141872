"""The five seams of the road. Anything with the right method fits; nothing is registered."""

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple, Protocol, runtime_checkable

from schemas.records import Candidate, Completion, Judgement, Prompt, Ranking

FAULTS = (ArithmeticError, AttributeError, LookupError, NameError, TypeError)
"""What code raises that has a fault, whatever the machine it runs on."""


@runtime_checkable
class Generator(Protocol):
    """Samples candidates from a model."""

    def generate(
        self, prompts: Iterable[Prompt], *, n: int
    ) -> Iterator[tuple[Prompt, list[Candidate]]]:
        """Each prompt with its distinct candidates, at most n, equal contents counted once."""
        ...


@runtime_checkable
class RewardFunction(Protocol):
    """Scores completions; the same object serves ranking, GRPO, PPO and evaluation."""

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        """One finite score a completion, higher is better; None abstains."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """Judges the candidates of a prompt against each other."""

    def rank(self, items: Iterable[tuple[Prompt, Sequence[Candidate]]]) -> Iterator[Judgement]: ...


class IndexPair(NamedTuple):
    """Positions in a ranking's `candidates`."""

    chosen: int
    rejected: int


@runtime_checkable
class PairStrategy(Protocol):
    """Picks which candidates to pair; it never pairs a tie."""

    def __call__(
        self, prompt: Prompt, candidates: Sequence[Candidate], ranking: Ranking, rng: Random
    ) -> Iterable[IndexPair]: ...

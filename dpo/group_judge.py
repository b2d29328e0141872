"""A pairwise judge as a reward: how often an answer wins against the other answers of its group."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Protocol

from schemas.records import Completion, Prompt, content_hash

Item = tuple[Prompt, Completion, Completion]


class Compared(Protocol):
    """What a judge said of two completions."""

    @property
    def share(self) -> float | None:
        """Of the win that the first has: 1, 0, or 0.5 for a tie or two orders that contradict each
        other; None: the judge abstained."""


class PairwiseJudge(Protocol):
    """Compares completions two at a time, such as `curation.judges.PairwiseJudge`."""

    @property
    def name(self) -> str: ...
    def compare(self, items: Sequence[Item]) -> Sequence[Compared]: ...


class GroupJudge:
    """The share of comparisons that an answer wins within its group: GRPO's reward from a judge.

    The answers of one call to the same prompt are a group, so that a call must hold it whole. A tie
    is half a win, a comparison that the judge abstains from is left out, and an answer that has no
    comparison left abstains. Answers of one content tie without being asked about, and are asked
    about once against another.
    """

    def __init__(self, judge: PairwiseJudge) -> None:
        self._judge = judge

    @property
    def name(self) -> str:
        return self._judge.name

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Nothing: a judge can compare answers to any prompt."""

    def components(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> dict[str, list[float | None]]:
        """Each answer's win rate, by the judge's name.

        Raises:
            ValueError: the judge gave another number of comparisons than it was asked for.
        """
        if len(prompts) != len(completions):
            raise ValueError(
                f"judge '{self.name}': {len(prompts)} prompts but {len(completions)} completions; "
                "expected one prompt a completion"
            )
        contents = [content_hash(completion.message_dicts()) for completion in completions]
        groups: dict[str, list[int]] = defaultdict(list)
        for row, prompt in enumerate(prompts):
            groups[prompt.id].append(row)
        asked: dict[tuple[str, str, str], Item] = {}
        for prompt_id, rows in groups.items():
            for one, other in itertools.combinations(rows, 2):
                first, second = contents[one], contents[other]
                if first != second and (prompt_id, second, first) not in asked:
                    item = (prompts[one], completions[one], completions[other])
                    asked.setdefault((prompt_id, first, second), item)
        shares = self._shares(asked)

        def against(prompt_id: str, one: int, other: int) -> float | None:
            first, second = contents[one], contents[other]
            return 0.5 if first == second else shares[prompt_id, first, second]

        rates: list[float | None] = [None] * len(completions)
        for prompt_id, rows in groups.items():
            for row in rows:
                rates[row] = _mean(against(prompt_id, row, other) for other in rows if other != row)
        return {self.name: rates}

    def combine(self, components: Mapping[str, Sequence[float | None]]) -> list[float | None]:
        """The win rates as `components` gives them."""
        return list(components[self.name])

    def _shares(
        self, asked: Mapping[tuple[str, str, str], Item]
    ) -> dict[tuple[str, str, str], float | None]:
        """The share of the win by prompt and two contents, for either of them as the first."""
        answers = self._judge.compare(list(asked.values())) if asked else []
        if len(answers) != len(asked):
            raise ValueError(
                f"judge '{self.name}': asked for {len(asked)} comparisons, gave {len(answers)}; "
                "expected one a pair"
            )
        shares: dict[tuple[str, str, str], float | None] = {}
        for (prompt_id, first, second), answer in zip(asked, answers, strict=True):
            share = answer.share
            shares[prompt_id, first, second] = share
            shares[prompt_id, second, first] = None if share is None else 1 - share
        return shares


def _mean(shares: Iterable[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return fmean(known) if known else None

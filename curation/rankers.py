"""Rewards as rankers: from candidates to judgements."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from curation.rewards.weighted import Kind, WeightedSum, checked_scores, kind_of, name_of
from schemas.interfaces import RewardFunction
from schemas.records import Annotator, Candidate, Completion, Judgement, Prompt

OVERALL = "overall"
"""The question that a ranker's final scores answer."""


class RewardRanker:
    """Judges candidates by a reward's scores; a `Ranker`.

    Each prompt with candidates gets one judgement, to the question "overall". A weighted sum of
    several rewards adds one for each of them, the question being its name; their scores are the
    unweighted ones. Candidates with the same text are judged once.
    """

    def __init__(
        self,
        reward: RewardFunction,
        *,
        name: str | None = None,
        kind: Kind | None = None,
        batch_size: int = 1024,
    ) -> None:
        if isinstance(reward, WeightedSum) and any(part.name == OVERALL for part in reward.rewards):
            raise ValueError(
                f"a reward is called '{OVERALL}', which is the question that the sum answers; give "
                "it another name"
            )
        self._reward = reward
        self._annotator = Annotator(kind=kind or kind_of(reward), name=name or name_of(reward))
        self._batch_size = batch_size

    def rank(self, items: Iterable[tuple[Prompt, Sequence[Candidate]]]) -> Iterator[Judgement]:
        """The judgements, prompt by prompt in the order of the items, candidates as given.

        Raises:
            ValueError: a candidate answers another prompt, or the reward gave no usable score.
        """
        batch: list[_Item] = []
        waiting = 0
        for prompt, candidates in items:
            batch.append(_Item(prompt, distinct_texts(prompt, candidates)))
            waiting += len(batch[-1].candidates)
            if waiting >= self._batch_size:
                yield from self._judge(batch)
                batch, waiting = [], 0
        yield from self._judge(batch)

    def _judge(self, batch: Sequence["_Item"]) -> Iterator[Judgement]:
        prompts = [item.prompt for item in batch for _ in item.candidates]
        completions = [candidate.completion for item in batch for candidate in item.candidates]
        answers = self._answers(prompts, completions) if prompts else []
        start = 0
        for item in batch:
            end = start + len(item.candidates)
            for answer in answers if end > start else ():
                yield Judgement(
                    prompt_id=item.prompt.id,
                    annotator=answer.annotator,
                    question=answer.question,
                    candidates=tuple(candidate.text_id for candidate in item.candidates),
                    scores=tuple(answer.scores[start:end]),
                )
            start = end

    def _answers(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list["_Answer"]:
        if not isinstance(self._reward, WeightedSum):
            scores = checked_scores(self._reward, prompts, completions, name=self._annotator.name)
            return [_Answer(OVERALL, self._annotator, scores)]
        parts = self._reward.components(prompts, completions)
        overall = _Answer(OVERALL, self._annotator, self._reward.combine(parts))
        if len(parts) == 1:
            return [overall]
        return [
            overall,
            *(
                _Answer(name, Annotator(kind=kind_of(reward), name=name), parts[name])
                for reward, _, name in self._reward.rewards
            ),
        ]


class _Item(NamedTuple):
    prompt: Prompt
    candidates: list[Candidate]


class _Answer(NamedTuple):
    question: str
    annotator: Annotator
    scores: list[float | None]


def distinct_texts(prompt: Prompt, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without repeated texts."""
    by_text: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.prompt_id != prompt.id:
            raise ValueError(
                f"candidate '{candidate.id}' answers prompt '{candidate.prompt_id}' but is given "
                f"with prompt '{prompt.id}'"
            )
        by_text.setdefault(candidate.text_id, candidate)
    return list(by_text.values())

"""Prompts with answers whose winner is known beforehand, and what is known of them by their words.

Laws look a text up by its words alone: an id, a place or a column that was swapped on the road
would swap them too, and nobody would notice.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

from schemas.records import Candidate, Completion, Message, Origin, Prompt, text_id

Turns = Iterable[Mapping[str, Any]]

Story = Literal["changed", "drafted", "discarded", "withdrawn", "late"]
"""What goes on while people answer: a wrong answer is changed; a further one stays a draft, is
discarded, or is taken back; a right one comes late."""


class Planted(NamedTuple):
    """A prompt, its candidates in the order they were sampled, and the score of each."""

    prompt: Prompt
    candidates: tuple[Candidate, ...]
    scores: tuple[float | None, ...]
    """None where nobody knows; 0 is bad."""
    story: Story | None = None

    @property
    def winners(self) -> set[str]:
        """`text_id`s of the candidates with the best score; empty where all scored are equal."""
        scored = self._scored()
        best = max(scored.values(), default=None)
        return {key for key, score in scored.items() if score == best} if self.has_pair else set()

    @property
    def has_pair(self) -> bool:
        return len(set(self._scored().values())) > 1

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of each candidate by `text_id`, 1 for the best; equals share one."""
        scored = self._scored()
        levels = sorted(set(scored.values()), reverse=True)
        return {key: levels.index(score) + 1 for key, score in scored.items()}

    def score_of(self, candidate_text_id: str) -> float | None:
        return self._scored().get(candidate_text_id)

    def row(self) -> dict[str, Any]:
        """The prompt as a line of a prompts file; the scores travel as its reference answer."""
        row: dict[str, Any] = {
            "messages": self.prompt.message_dicts(),
            "answer": {
                candidate.text_id: score
                for candidate, score in zip(self.candidates, self.scores, strict=True)
            },
        }
        return row if self.prompt.tools is None else {**row, "tools": self.prompt.tools}

    def _scored(self) -> dict[str, float]:
        return {
            candidate.text_id: score
            for candidate, score in zip(self.candidates, self.scores, strict=True)
            if score is not None
        }


class Comparison(NamedTuple):
    """Two answers to one prompt, by their words."""

    asked: str
    better: str
    worse: str


class Opinions:
    """What is known of planted texts, found by their words."""

    def __init__(self, planted: Sequence[Planted]) -> None:
        self._planted = {words(item.prompt.message_dicts()): item for item in planted}
        self._scores = {
            (asked, words(candidate.completion.message_dicts())): score
            for asked, item in self._planted.items()
            for candidate, score in zip(item.candidates, item.scores, strict=True)
        }

    def score(self, asked: Turns, answer: Turns) -> float | None:
        """The answer's score; None where it was not planted, or planted without one."""
        return self._scores.get((words(asked), words(answer)))

    def prefers(self, asked: Turns, answer: Turns, other: Turns) -> bool:
        """Whether both are known and the first is the better one."""
        score, other_score = self.score(asked, answer), self.score(asked, other)
        return score is not None and other_score is not None and score > other_score

    def story(self, asked: Turns) -> Story | None:
        item = self._planted.get(words(asked))
        return None if item is None else item.story

    def comparisons(self) -> Iterator[Comparison]:
        """Every two answers that are scored apart."""
        for (asked, one), (_, other) in self._twos():
            score, other_score = self._scores[asked, one], self._scores[asked, other]
            if score is not None and other_score is not None and score != other_score:
                better, worse = (one, other) if score > other_score else (other, one)
                yield Comparison(asked, better, worse)

    def ties(self) -> Iterator[Comparison]:
        """Every two answers that are scored alike, in either order."""
        for (asked, one), (_, other) in self._twos():
            score, other_score = self._scores[asked, one], self._scores[asked, other]
            if score is not None and score == other_score:
                yield Comparison(asked, one, other)
                yield Comparison(asked, other, one)

    def _twos(self) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
        return (two for two in combinations(self._scores, 2) if two[0][0] == two[1][0])


def words(turns: Turns) -> str:
    """What the turns say, as one text: roles, contents, and calls where there are any."""
    said = []
    for turn in turns:
        calls = turn.get("tool_calls")
        said.append([turn["role"], turn.get("content") or "", *([calls] if calls else [])])
    return json.dumps(said, sort_keys=True)


def turns_of(said: str) -> list[dict[str, Any]]:
    """The roles and contents that the words were made of."""
    return [{"role": role, "content": content} for role, content, *_ in json.loads(said)]


def answer(text: str) -> list[dict[str, Any]]:
    """The text as an assistant's turn."""
    return [{"role": "assistant", "content": text}]


class PlantedReward:
    """The score that was planted with the prompt; None where none was."""

    name = "planted"
    kind = "rule"

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        return [
            prompt.answer[text_id(prompt.id, completion)]
            for prompt, completion in zip(prompts, completions, strict=True)
        ]


def planted(
    asked: str | Sequence[dict[str, Any]],
    answers: Sequence[str | dict[str, Any]],
    scores: Sequence[float | None],
    *,
    tools: Any = None,
    story: Story | None = None,
) -> Planted:
    """A question, or a whole conversation, with answers and their scores."""
    turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    prompt = Prompt(messages=tuple(map(Message.model_validate, turns)), tools=tools)
    candidates = []
    for index, given in enumerate(answers):
        (turn,) = answer(given) if isinstance(given, str) else [given]
        candidates.append(
            Candidate(
                prompt_id=prompt.id,
                completion=Completion(
                    messages=(Message.model_validate(turn),), finish_reason="stop"
                ),
                origin=Origin(generator="import:selftest", index=index),
            )
        )
    return Planted(prompt, tuple(candidates), tuple(scores), story)

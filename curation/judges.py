"""LLM judges on an endpoint: one rates an answer, the other compares two in both orders."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

from curation.endpoints import NOT_ANSWERED, ChatAnswer, ChatRequest, Endpoint, Usage
from curation.formats.rated import is_number
from curation.judge_prompts import (
    CRITERIA,
    PAIRWISE,
    POINTWISE,
    JudgeTemplate,
    answer_text,
    conversation,
    reference_text,
)
from curation.kept_answers import KeptAnswers
from curation.rankers import OVERALL, distinct_texts
from curation.rewards.ratings import parse_rating
from curation.verdicts import Compared, Verdict, parse_verdict, turned
from schemas.configs import EndpointConfig
from schemas.records import (
    Annotator,
    Candidate,
    Completion,
    Judgement,
    Prompt,
    content_hash,
    without_thought,
)


class _Reply(NamedTuple):
    """A judge's text, or why it gave none that counts."""

    text: str
    abstains: str | None
    """EMPTY, CUT_OFF, REFUSED, CONTENT_FILTER, CONTEXT_LENGTH, INTERRUPTED."""


class _Judge:
    """A model on an endpoint that is shown a filled-in template."""

    kind: Literal["judge"] = "judge"

    def __init__(
        self,
        endpoint: EndpointConfig | Mapping[str, Any],
        template: JudgeTemplate,
        *,
        name: str | None,
        temperature: float,
        max_tokens: int,
        seed: int,
    ) -> None:
        if not is_number(temperature) or temperature < 0:
            raise ValueError(f"temperature is {temperature!r}; expected a number from 0 up")
        if not is_number(max_tokens) or max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens!r}; expected 1 or more")
        self._endpoint = Endpoint(endpoint)
        self._template = template
        self._settings = {"temperature": temperature, "max_tokens": max_tokens}
        self._seed = seed
        self.name = name or self._endpoint.config.model
        self.template = template.hash
        """The hash of the template: another one asks another question."""
        self.abstained: Counter[str] = Counter()
        """How many questions got no answer that counts, by reason; UNPARSABLE among them."""

    @property
    def usage(self) -> Usage:
        """What the judge's endpoint has been asked so far."""
        return self._endpoint.usage

    def keep_answers(self, file: Path) -> KeptAnswers:
        """From now on, answers are kept in the file, and what it holds is not asked again."""
        return self._endpoint.keep_answers(file)

    def close(self) -> None:
        self._endpoint.close()

    def _ask(self, questions: Iterable[Mapping[str, str]]) -> Iterator[_Reply]:
        """One reply a question, in order."""
        texts = (self._template.fill(values) for values in questions)
        for answer in self._endpoint.chat(self._request(text) for text in texts):
            yield _reply(answer)

    def _request(self, text: str) -> ChatRequest:
        seed = int(content_hash(self._seed, text)[:15], 16) % 2**31
        return ChatRequest([{"role": "user", "content": text}], {**self._settings, "seed": seed})


class PointwiseJudge(_Judge):
    """Rates an answer on a scale; a `RewardFunction`.

    A rating that cannot be read, is not on the scale, was refused or cut off abstains, and is
    counted by reason in `abstained`. A server that fails raises: nothing is scored as zero for it.

    The template has the fields {prompt} and {answer}, and may have {criteria}, {low}, {high} and
    {reference}, the prompt's reference answer.
    """

    def __init__(
        self,
        endpoint: EndpointConfig | Mapping[str, Any],
        *,
        name: str | None = None,
        template: str = POINTWISE,
        criteria: str = CRITERIA,
        scale: Sequence[float] = (1, 10),
        temperature: float = 0.0,
        max_tokens: int = 512,
        seed: int = 0,
    ) -> None:
        numbers = [float(end) for end in scale if is_number(end)]
        if len(scale) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise ValueError(f"scale is {list(scale)}; expected a lower and a higher number")
        self._scale = (numbers[0], numbers[1])
        self._criteria = criteria
        shown = JudgeTemplate(
            template,
            needed=("prompt", "answer"),
            known=("criteria", "low", "high", "reference"),
        )
        super().__init__(
            endpoint,
            shown,
            name=name,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
        )

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        """One rating a completion on the judge's own scale; None where it gave none.

        Raises:
            ValueError: the server refused the key, the model or a setting, or the budget is spent.
            OSError: the server is not there or fails.
        """
        asked = zip(prompts, completions, strict=True)
        questions = (self._question(prompt, completion) for prompt, completion in asked)
        return [self._rating(reply) for reply in self._ask(questions)]

    def _question(self, prompt: Prompt, completion: Completion) -> dict[str, str]:
        return {
            "prompt": conversation(prompt),
            "answer": answer_text(completion),
            "reference": reference_text(prompt),
            "criteria": self._criteria,
            "low": f"{self._scale[0]:g}",
            "high": f"{self._scale[1]:g}",
        }

    def _rating(self, reply: _Reply) -> float | None:
        reason = reply.abstains
        if reason is None:
            try:
                return parse_rating(reply.text, scale=self._scale)
            except ValueError:
                reason = "UNPARSABLE"
        self.abstained[reason] += 1
        return None


class PairwiseJudge(_Judge):
    """Says which of two answers is better, asked in both orders; a `Ranker`.

    A verdict that cannot be read, was refused or cut off abstains, and is counted by reason in
    `abstained`. A server that fails raises. Equal answers are not asked about.

    `pairs_a_prompt` of a prompt's pairs are compared, by default each. With at least one fewer
    than it has candidates, each candidate is connected with each other.

    The template has the fields {prompt}, {first} and {second}, and may have {criteria} and
    {reference}, the prompt's reference answer.
    """

    def __init__(
        self,
        endpoint: EndpointConfig | Mapping[str, Any],
        *,
        name: str | None = None,
        template: str = PAIRWISE,
        criteria: str = CRITERIA,
        pairs_a_prompt: int | None = None,
        temperature: float = 0.0,
        max_tokens: int = 512,
        seed: int = 0,
    ) -> None:
        if pairs_a_prompt is not None and pairs_a_prompt < 1:
            raise ValueError(f"pairs_a_prompt is {pairs_a_prompt}; expected 1 or more")
        self._criteria = criteria
        self._pairs_a_prompt = pairs_a_prompt
        shown = JudgeTemplate(
            template,
            needed=("prompt", "first", "second"),
            known=("criteria", "reference"),
        )
        super().__init__(
            endpoint,
            shown,
            name=name,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
        )

    def rank(self, items: Iterable[tuple[Prompt, Sequence[Candidate]]]) -> Iterator[Judgement]:
        """Two judgements a pair, one an order, candidates in the order shown.

        One without a verdict has neither ranks nor scores but None for both, and its rationale
        begins with the reason; else the rationale is what the judge wrote.

        Raises:
            ValueError: the server refused the key, the model or a setting, or the budget is spent.
            OSError: the server is not there or fails.
        """
        shown: deque[tuple[Prompt, Candidate, Candidate]] = deque()

        def questions() -> Iterator[dict[str, str]]:
            for prompt, candidates in items:
                for pair in self._pairs(prompt, distinct_texts(prompt, candidates)):
                    for first, second in (pair, pair[::-1]):
                        shown.append((prompt, first, second))
                        yield self._question(prompt, first.completion, second.completion)

        annotator = Annotator(kind=self.kind, name=self.name)
        for reply in self._ask(questions()):
            prompt, first, second = shown.popleft()
            verdict, reason = self._verdict(reply)
            yield Judgement(
                prompt_id=prompt.id,
                annotator=annotator,
                question=OVERALL,
                candidates=(first.text_id, second.text_id),
                ranks=None if verdict is None else _RANKS[verdict],
                scores=(None, None) if verdict is None else None,
                rationale=reply.text if verdict is not None else f"{reason}: {reply.text}",
            )

    def compare(self, items: Sequence[tuple[Prompt, Completion, Completion]]) -> list[Compared]:
        """What the judge says of each two completions, asked in both orders; equals are a tie.

        Raises:
            ValueError: the server refused the key, the model or a setting, or the budget is spent.
            OSError: the server is not there or fails.
        """
        differ = [left.message_dicts() != right.message_dicts() for _, left, right in items]
        replies = self._ask(
            self._question(prompt, *order)
            for asked, (prompt, left, right) in zip(differ, items, strict=True)
            for order in (((left, right), (right, left)) if asked else ())
        )
        verdicts = (self._verdict(reply)[0] for reply in replies)
        return [
            Compared(next(verdicts), turned(next(verdicts))) if asked else Compared("tie", "tie")
            for asked in differ
        ]

    def _pairs(
        self, prompt: Prompt, candidates: Sequence[Candidate]
    ) -> list[tuple[Candidate, Candidate]]:
        """The pairs to ask about: of a drawn order of the candidates, neighbours first."""
        pairs = list(combinations(candidates, 2))
        if self._pairs_a_prompt is None or self._pairs_a_prompt >= len(pairs):
            return pairs
        drawn = sorted(candidates, key=lambda candidate: candidate.text_id)
        Random(f"{self._seed}:{prompt.id}").shuffle(drawn)
        apart = sorted(combinations(range(len(drawn)), 2), key=lambda two: two[1] - two[0])
        return [(drawn[left], drawn[right]) for left, right in apart[: self._pairs_a_prompt]]

    def _question(self, prompt: Prompt, first: Completion, second: Completion) -> dict[str, str]:
        return {
            "prompt": conversation(prompt),
            "first": answer_text(first),
            "second": answer_text(second),
            "reference": reference_text(prompt),
            "criteria": self._criteria,
        }

    def _verdict(self, reply: _Reply) -> tuple[Verdict | None, str | None]:
        """The verdict, or why there is none."""
        verdict = None if reply.abstains else parse_verdict(reply.text)
        if verdict is not None:
            return verdict, None
        reason = reply.abstains or "UNPARSABLE"
        self.abstained[reason] += 1
        return None, reason


_RANKS: dict[Verdict, tuple[int, int]] = {"first": (1, 2), "second": (2, 1), "tie": (1, 1)}


def _reply(answer: ChatAnswer) -> _Reply:
    # A model that thinks aloud says in its thoughts what it may take back.
    text = without_thought(answer.text).strip()
    if answer.finish_reason in NOT_ANSWERED:
        return _Reply(answer.detail or text, str(answer.finish_reason).upper())
    if answer.message.get("refusal"):
        return _Reply(text, "REFUSED")
    if answer.finish_reason == "length":
        return _Reply(text, "CUT_OFF")
    return _Reply(text, None if text else "EMPTY")

"""Prompts with answers whose winner is known beforehand: what the self-test sends down the road."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from schemas.records import Candidate, Completion, Message, Origin, Prompt, text_id

_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "day": {"type": ["string", "null"]}},
                "required": ["city"],
            },
        },
    }
]


class Planted(NamedTuple):
    """A prompt, its candidates in the order they were sampled, and the score of each."""

    prompt: Prompt
    candidates: tuple[Candidate, ...]
    scores: tuple[float | None, ...]

    @property
    def winners(self) -> set[str]:
        """`text_id`s of the candidates with the best score; empty where all scored are equal."""
        scored = self._scored()
        best = max(scored.values(), default=None)
        return {key for key, score in scored.items() if score == best} if self.has_pair else set()

    @property
    def has_pair(self) -> bool:
        return len(set(self._scored().values())) > 1

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


def planted_prompts() -> list[Planted]:
    """Every kind of prompt that has ever swapped, tied or lost a winner."""
    return [*_plain(), *_ties(), *_odd_texts(), *_conversations(), *_tool_calls()]


def _plain() -> Iterator[Planted]:
    """Winner first, last and in the middle; shorter and longer; scores of any sign and size."""
    for number, (words, scores) in enumerate(
        [
            (("Red.", "The house is small and old."), (1.0, 0.0)),
            (("The house is small and old.", "Red."), (0.0, 1.0)),
            (("No.", "Yes, it is.", "I do not know."), (0.1, 0.9, 0.5)),
            (("Never again.", "Seven days."), (-2.0, -1.0)),
            (("Paris.", "France."), (1e-9, 0.0)),
            (("Blue.", "Blue"), (3.0, 2.0)),
            (("The cat sleeps.", "The Cat sleeps."), (100.0, -100.0)),
            (("One.", "Two.", "Three.", "Four."), (0.4, 0.3, 0.2, 0.1)),
            (("One.", "Two.", "Three.", "Four."), (0.1, 0.2, 0.3, 0.4)),
        ]
    ):
        yield _planted(f"Plain question number {number}?", words, scores)


def _ties() -> Iterator[Planted]:
    """All equal, equal at the top, equal at the bottom, and answers that nobody scored."""
    yield _planted("All alike?", ("Yes.", "No."), (0.5, 0.5))
    yield _planted("All wrong?", ("Red.", "Blue.", "Old."), (0.0, 0.0, 0.0))
    yield _planted("Two best?", ("Red.", "Blue.", "Old."), (1.0, 1.0, 0.0))
    yield _planted("Two worst?", ("Red.", "Blue.", "Old."), (0.0, 1.0, 0.0))
    yield _planted("Nobody knows?", ("Red.", "Blue."), (None, None))
    yield _planted("Only one is known?", ("Red.", "Blue."), (None, 1.0))
    yield _planted("The best is not known?", ("Red.", "Blue.", "Old."), (None, 0.2, 0.8))


def _odd_texts() -> Iterator[Planted]:
    """Scripts, combined signs, quotes, line breaks, and what looks like a number, null or JSON."""
    for number, words in enumerate(
        [
            ("Zażółć gęślą jaźń.", "Zazolc gesla jazn."),
            ("مرحبا بالعالم", "שלום עולם"),
            ("👩‍👩‍👧 and a flag 🇳🇴", "no emoji"),
            ("cafe\u0301", "caf\u00e9!"),
            ("line one\nline two\n\tindented", "line one line two"),
            ('He said "no", then: \\n', "He said nothing"),
            ("null", "None"),
            ("3.0", "3"),
            ('{"a": null}', "[]"),
            ("a,b;c\td", "a|b"),
        ]
    ):
        yield _planted(f"Odd text number {number}?", words, (1.0, 0.0))
        yield _planted(f"Odd text number {number}, loser first?", words[::-1], (0.0, 1.0))


def _conversations() -> Iterator[Planted]:
    """Several turns and a system message; the winner of one turn was the loser of another."""
    turns = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Describe the small red house."},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "And the sky?"},
    ]
    yield _planted(turns, ("Blue.", "Red."), (1.0, 0.0))
    yield _planted(turns[1:], ("Red.", "Blue."), (1.0, 0.0))


def _tool_calls() -> Iterator[Planted]:
    """Calls that differ in an argument, or in a null that their author wrote."""
    asked = [{"role": "user", "content": "What is the weather in Oslo?"}]
    calls: list[dict[str, Any]] = [
        {"city": "Oslo", "day": None},
        {"city": "Bergen", "day": None},
        {"city": "Oslo"},
    ]
    yield _planted(asked, [_call(call) for call in calls], (1.0, 0.0, 0.5), _TOOLS)
    answered = [
        *asked,
        _call(calls[0], call_id="call-1"),
        {"role": "tool", "content": '{"degrees": -3}', "tool_call_id": "call-1"},
    ]
    yield _planted(answered, ("It is -3 degrees.", "It is warm."), (1.0, 0.0), _TOOLS)


def _call(arguments: dict[str, Any], call_id: str | None = None) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    named = call if call_id is None else {**call, "id": call_id}
    return {"role": "assistant", "content": "", "tool_calls": [named]}


def _planted(
    asked: str | Sequence[dict[str, Any]],
    answers: Sequence[str | dict[str, Any]],
    scores: Sequence[float | None],
    tools: Any = None,
) -> Planted:
    turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    prompt = Prompt(messages=tuple(map(Message.model_validate, turns)), tools=tools)
    candidates = []
    for index, answer in enumerate(answers):
        turn = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
        candidates.append(
            Candidate(
                prompt_id=prompt.id,
                completion=Completion(
                    messages=(Message.model_validate(turn),), finish_reason="stop"
                ),
                origin=Origin(generator="import:selftest", index=index),
            )
        )
    return Planted(prompt, tuple(candidates), tuple(scores))

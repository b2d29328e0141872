"""Checks on the tokens of a pair, as the chat template renders it and the trainer cuts it."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from curation.validation.row import Failure
from schemas.records import Completion, PairProposal, Prompt

if TYPE_CHECKING:
    from curation.chat import Encoded, TemplateError


class Chat(Protocol):
    """What the gate asks of a `curation.chat.ChatTemplate`."""

    def encode_batch(
        self, items: Sequence[tuple[Prompt, Completion]]
    ) -> "list[Encoded | TemplateError]": ...

    def check_history(self, prompt: Prompt) -> None: ...

    def rendered_markers(self, text: str) -> list[str]: ...


class TokenChecks:
    """The token checks of one run of the gate, and what they found out about the template."""

    def __init__(self, chat: Chat, max_length: int) -> None:
        self._chat = chat
        self._max_length = max_length
        self._whole = 0
        self._broken: Counter[str] = Counter()
        self._first_error = ""
        self._rewritten: dict[str, str] = {}

    def failures(self, proposals: Sequence[PairProposal]) -> list[Failure | None]:
        """One result a proposal, None where its tokens are what they claim."""
        from curation.chat import TemplateError

        sides = [
            (pair.prompt, side.completion)
            for pair in proposals
            for side in (pair.chosen, pair.rejected)
        ]
        encoded = self._chat.encode_batch(sides)
        failures: list[Failure | None] = []
        for pair, chosen, rejected in zip(proposals, encoded[::2], encoded[1::2], strict=True):
            if isinstance(chosen, TemplateError):
                failures.append(self._template_broke(chosen))
            elif isinstance(rejected, TemplateError):
                failures.append(self._template_broke(rejected))
            else:
                self._whole += 1
                self._note_history(pair.prompt)
                failures.append(after_truncation(chosen, rejected, self._max_length))
        return failures

    def refusal(self) -> str | None:
        """One sentence where the template broke every row that reached it; else None."""
        if self._whole or not self._broken:
            return None
        codes = ", ".join(f"{code} {count}" for code, count in self._broken.most_common())
        return (
            f"the chat template breaks all {self._broken.total()} rows that reach it ({codes}); "
            f"the first: {self._first_error}"
        )

    def warnings(self) -> list[str]:
        if not self._rewritten:
            return []
        first = next(iter(self._rewritten.values()))
        return [
            f"HISTORY_REWRITTEN: the chat template changes earlier turns of {len(self._rewritten)} "
            f"prompts, in sampling as in training; the first: {first}"
        ]

    def _template_broke(self, error: "TemplateError") -> Failure:
        self._broken[error.code] += 1
        self._first_error = self._first_error or str(error)
        return Failure(error.code, str(error))

    def _note_history(self, prompt: Prompt) -> None:
        from curation.chat import TemplateError

        if len(prompt.messages) == 1 or prompt.id in self._rewritten:
            return
        try:
            self._chat.check_history(prompt)
        except TemplateError as error:
            self._rewritten[prompt.id] = str(error)


def after_truncation(chosen: "Encoded", rejected: "Encoded", max_length: int) -> Failure | None:
    """Why the two sides are no pair once the trainer keeps their first `max_length` tokens.

    TRL cuts each side by itself, from its start on (`truncation_mode` keep_start), and drops a row
    whose prompt leaves no room. It also cuts the end-of-sequence token off a long side without a
    word, which teaches the model not to stop: such a side is TOO_LONG here.
    """
    prompt = len(chosen.prompt_ids)
    room = max_length - prompt
    if room <= 0:
        return Failure(
            "PROMPT_TOO_LONG",
            f"the prompt's {prompt} tokens fill the limit of {max_length} (max_length); expected "
            "room for an answer",
        )
    if chosen.completion_ids == rejected.completion_ids:
        return Failure(
            "IDENTICAL_SIDES", "chosen and rejected are the same tokens; expected two answers"
        )
    if chosen.completion_ids[:room] == rejected.completion_ids[:room]:
        return Failure(
            "IDENTICAL_AFTER_TRUNCATION",
            f"chosen and rejected share the {room} answer tokens that the limit of {max_length} "
            "(max_length) keeps",
        )
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        length = prompt + len(side.completion_ids)
        if length > max_length:
            return Failure(
                "TOO_LONG",
                f"prompt and {name} have {length} tokens and the limit is {max_length} "
                "(max_length); the end of the answer would be cut off",
            )
    return None

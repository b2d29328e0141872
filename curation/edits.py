"""Declared edits of a model's own answers: an edit is called with (prompt, text).

It returns the edited text, which is better than the answer; or `Worse` of a text that is not as
good; or None where it has nothing to say. The result is a candidate of its own whose origin names
the edit and the candidate it was made from.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import NamedTuple

from curation.languages import whole_word
from schemas.interfaces import FAULTS
from schemas.records import Candidate, Completion, Origin, PairProposal, Prompt


@dataclass(frozen=True)
class ReplaceNames:
    """Each name, written as a whole word, becomes another; longer names are replaced first."""

    names: Mapping[str, str]
    """New name by old name."""
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if not self.names or not all(self.names):
            raise ValueError("the names to replace are empty; expected old names with new ones")
        given = self.names.items() if isinstance(self.names, Mapping) else [(self.names, None)]
        for pair in given:
            if not all(isinstance(name, str) for name in pair):
                found = next(name for name in pair if not isinstance(name, str))
                raise ValueError(f"a name to replace is {found!r}; expected texts, new by old")

    def __call__(self, prompt: Prompt, text: str) -> str | None:
        return self._pattern.sub(lambda found: self._new[found.lastindex or 0], text)

    @cached_property
    def _longest_first(self) -> list[str]:
        return sorted(self.names, key=len, reverse=True)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """One group a name, as which name was met is not to be told from its letters in any case:
        ſ is an s there."""
        flags = re.IGNORECASE if self.ignore_case else 0
        any_name = "|".join(f"({re.escape(name)})" for name in self._longest_first)
        return re.compile(whole_word(any_name), flags)

    @cached_property
    def _new(self) -> list[str]:
        return ["", *(self.names[name] for name in self._longest_first)]


class ReplaceName(ReplaceNames):
    """One name, in any of its spellings, becomes another: the edit of identity training."""

    def __init__(self, old: str | Sequence[str], new: str, ignore_case: bool = False) -> None:
        spellings = [old] if isinstance(old, str) else old
        if not isinstance(spellings, Sequence):
            raise ValueError(f"a name to replace is {old!r}; expected a text, or a list of texts")
        super().__init__(dict.fromkeys(spellings, new), ignore_case)


class Worse(NamedTuple):
    """What an edit returns where the model's own answer is better than the edit's text."""

    text: str


Edit = Callable[[Prompt, str], str | Worse | None]


class EditedPair(NamedTuple):
    """An answer and its edit, as the edit ranks the two; one of them is the parent of the other."""

    chosen: Candidate
    rejected: Candidate


def edited(prompt: Prompt, candidate: Candidate, edit: Edit, name: str) -> EditedPair | None:
    """The candidate and its edit, the better one chosen; None where the edit changes nothing."""
    content = candidate.completion.messages[-1].content
    said = None if content is None else _said(edit, prompt, content, name)
    text = said.text if isinstance(said, Worse) else said
    if text is None or text == content:
        return None
    made = _with_text(candidate, text, name)
    return EditedPair(candidate, made) if isinstance(said, Worse) else EditedPair(made, candidate)


def _said(edit: Edit, prompt: Prompt, content: str, name: str) -> str | Worse | None:
    try:
        said = edit(prompt, content)
    except FAULTS as error:
        raise ValueError(
            f"edit '{name}', prompt '{prompt.id}': {type(error).__name__}: {error}; its code has "
            "to be mended (--debug shows where)"
        ) from error
    text = said.text if isinstance(said, Worse) else said
    if not isinstance(text, str | None):
        raise ValueError(
            f"edit '{name}', prompt '{prompt.id}': it gave {type(text).__name__}; expected a text, "
            "Worse of a text, or None"
        )
    return said


def augment(
    proposals: Iterable[PairProposal],
    edit: Callable[[Prompt, str], str | None],
    name: str,
    *,
    share: float,
    seed: int,
) -> Iterator[PairProposal]:
    """The proposals, about a share of them with the edit applied to both sides.

    One draw a pair, never one a side: what an augmentation changes must not tell chosen from
    rejected. A pair with a side that the edit returns None for stays as it is on both.
    """
    for pair in proposals:
        sides: list[Candidate] = []
        if Random(f"{seed}:{pair.id}").random() < share:
            for side in (pair.chosen, pair.rejected):
                content = side.completion.messages[-1].content
                text = None if content is None else edit(pair.prompt, content)
                if text is not None:
                    sides.append(side if text == content else _with_text(side, text, name))
        if len(sides) == 2:
            fields = {field: getattr(pair, field) for field in PairProposal.model_fields}
            yield PairProposal(**{**fields, "id": "", "chosen": sides[0], "rejected": sides[1]})
        else:
            yield pair


def _with_text(candidate: Candidate, text: str, name: str) -> Candidate:
    *earlier, last = candidate.completion.messages
    return Candidate(
        prompt_id=candidate.prompt_id,
        completion=Completion(
            messages=(*earlier, last.model_copy(update={"content": text})),
            finish_reason=candidate.completion.finish_reason,
        ),
        origin=Origin(generator=f"edit:{name}", index=candidate.origin.index, parent=candidate.id),
    )

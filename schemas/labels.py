"""What people are asked, and what is decided about people and prompts afterwards."""

from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.records import Candidate, IdentifiedRecord, Prompt, Record

Purpose = Literal["label", "gold", "adjudication"]

Buried = Literal["annotator", "prompt", "task"]
"""A prompt's tasks are remembered too: the server knows its records by these alone."""


class LabelTask(IdentifiedRecord):
    """One record put before annotators: a prompt, and candidates in the order shown.

    It holds all that an answer needs to be understood, so answers outlive the run that asked. The
    id does not depend on the order shown: asked again, the same question is the same task.
    """

    id_prefix: ClassVar[str] = "l"

    dataset: str
    """The labelling dataset's name in the server."""
    workspace: str
    prompt: Prompt
    candidates: tuple[Candidate, ...] = Field(min_length=2, max_length=6)
    """In the order shown: the first is A, or answer 1."""
    kind: Literal["pairwise", "ranking"] = "pairwise"
    purpose: Purpose = "label"
    expected: tuple[int, ...] | None = None
    """A gold question's right ranks, in the order shown; annotators never see them."""
    mirrored: bool = False
    """The second of two records that show one pair in both orders."""
    overlap: int = Field(default=1, ge=1)
    """How many submitted answers complete the record."""
    assisted: bool = False
    """Annotators see a machine's ranking before they answer."""
    follows: str | None = None
    """The dataset that this record's votes add to."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        where = f"label task for prompt '{self.prompt.id}'"
        text_ids = {candidate.text_id for candidate in self.candidates}
        if len(text_ids) != len(self.candidates):
            raise ValueError(f"{where}: two candidates have the same text")
        if any(candidate.prompt_id != self.prompt.id for candidate in self.candidates):
            raise ValueError(f"{where}: a candidate answers another prompt")
        if self.kind == "pairwise" and len(self.candidates) != 2:
            raise ValueError(f"{where}: {len(self.candidates)} candidates; a pair has 2")
        if (self.expected is not None) != (self.purpose == "gold"):
            raise ValueError(f"{where}: a gold question, and no other, has an expected answer")
        if self.expected is not None and len(self.expected) != len(self.candidates):
            raise ValueError(f"{where}: one expected rank a candidate is needed")
        return self

    def content(self) -> list[Any]:
        shown = sorted(candidate.text_id for candidate in self.candidates)
        return [self.dataset, self.workspace, self.prompt.id, shown, self.kind, self.mirrored]

    @property
    def shown(self) -> tuple[str, ...]:
        """The candidates' `text_id`s in the order shown."""
        return tuple(candidate.text_id for candidate in self.candidates)


class AnnotatorDecision(Record):
    """An annotator's votes are left out from now on, or counted again; the latest decision holds.

    Nothing is deleted: the votes stay in the store.
    """

    annotator: str
    action: Literal["exclude", "include"]
    reason: str
    number: int = Field(ge=0)
    """Counts the decisions, so that two alike are two."""
    at: datetime


class Tombstone(Record):
    """Someone's or something's data was removed for good; what it was is known by hash alone."""

    kind: Buried
    hash: str
    """`content_hash` of the annotator's name, or of the prompt's or task's id."""
    judgements: int
    tasks: int
    at: datetime

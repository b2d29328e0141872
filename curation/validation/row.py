"""A row as the gate reads it: raw messages, nothing promised, nothing repaired."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from curation.formats.json_values import as_json
from schemas.records import (
    Candidate,
    Completion,
    Json,
    Message,
    Origin,
    PairProposal,
    Prompt,
    Record,
)

Messages = list[dict[str, Any]]
FinishReason = Literal["stop", "length"]


class Failure(NamedTuple):
    """Why a row cannot be a preference pair: a reason code, and a sentence for the user."""

    code: str
    message: str


class Quarantined(Record):
    """A row that the gate kept out, with the first check it failed."""

    row_id: str
    code: str
    message: str
    row: Json = None


@dataclass(frozen=True, slots=True)
class RawRow:
    row_id: str
    prompt: Messages
    chosen: Messages
    """What follows the prompt on the preferred side; `rejected` alike."""
    rejected: Messages
    tools: Any = None
    p_chosen: Any = None
    weight: Any = 1.0
    margin: Any = None
    ratings: Sequence[Any] | None = None
    """Ratings of chosen and rejected, in this order."""
    chosen_finish: FinishReason | None = None
    rejected_finish: FinishReason | None = None
    source: str = ""
    """The name of the file it was read from; none for a proposal."""
    error: Failure | None = None
    """What already went wrong in reading it."""
    proposal: PairProposal | None = None
    """The proposal that the row shows, where it comes from one."""

    @property
    def sampled(self) -> frozenset[str]:
        """Which of `chosen` and `rejected` are known to be a model's own tokens."""
        if self.proposal is None:
            return frozenset()
        sides = (("chosen", self.proposal.chosen), ("rejected", self.proposal.rejected))
        return frozenset(name for name, side in sides if side.completion.token_ids is not None)

    def sides(self) -> tuple[tuple[str, Messages], tuple[str, Messages]]:
        return ("chosen", self.chosen), ("rejected", self.rejected)

    def to_proposal(self) -> PairProposal:
        """The proposal behind the row, or one made from its messages.

        Raises:
            ValueError: a message does not fit the records.
        """
        if self.proposal is not None:
            return self.proposal
        prompt = Prompt.model_validate({"messages": self.prompt, "tools": self.tools})
        chosen, rejected = (
            Candidate(
                prompt_id=prompt.id,
                completion=Completion(
                    messages=tuple(map(Message.model_validate, messages)), finish_reason=finish
                ),
                origin=Origin(generator=f"import:{self.source}"),
            )
            for messages, finish in (
                (self.chosen, self.chosen_finish),
                (self.rejected, self.rejected_finish),
            )
        )
        return PairProposal(
            prompt=prompt,
            chosen=chosen,
            rejected=rejected,
            p_chosen=self.p_chosen,
            weight=self.weight,
            margin=rated_margin(self),
            strategy="import",
        )

    def quarantined(self, failure: Failure) -> Quarantined:
        row = {
            "prompt": self.prompt,
            "chosen": self.chosen,
            "rejected": self.rejected,
            "tools": self.tools,
            "p_chosen": self.p_chosen,
            "weight": self.weight,
            "margin": self.margin,
            "ratings": self.ratings,
        }
        if self.proposal is not None:
            row["prompt_id"] = self.proposal.prompt.id
            row["chosen_id"] = self.proposal.chosen.id
            row["rejected_id"] = self.proposal.rejected.id
        return Quarantined(
            row_id=self.row_id,
            code=failure.code,
            message=printable(failure.message),
            row=as_json({key: value for key, value in row.items() if value is not None}),
        )


def rows_from_proposals(proposals: Iterable[PairProposal]) -> Iterator[RawRow]:
    """One row a proposal, under the proposal's id."""
    for proposal in proposals:
        yield row_from_proposal(proposal.id, proposal)


def row_from_proposal(row_id: str, proposal: PairProposal) -> RawRow:
    chosen, rejected = proposal.chosen.completion, proposal.rejected.completion
    return RawRow(
        row_id=row_id,
        prompt=proposal.prompt.message_dicts(),
        chosen=chosen.message_dicts(),
        rejected=rejected.message_dicts(),
        tools=proposal.prompt.tools,
        p_chosen=proposal.p_chosen,
        weight=proposal.weight,
        margin=proposal.margin,
        chosen_finish=chosen.finish_reason,
        rejected_finish=rejected.finish_reason,
        proposal=proposal,
    )


def rated_margin(row: RawRow) -> Any:
    """The row's margin: its own, else the difference of its two ratings, else None."""
    return rating_difference(row) if row.margin is None else row.margin


def rating_difference(row: RawRow) -> Any:
    """The rating of chosen minus that of rejected; None where the row has no ratings."""
    if row.ratings is None:
        return None
    chosen, rejected = row.ratings
    # Ratings that are equal on paper may differ in the last bits of their sums.
    return 0.0 if math.isclose(chosen, rejected, rel_tol=1e-12) else chosen - rejected


def printable(text: str) -> str:
    """The text with half characters escaped, so that it can be written anywhere."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

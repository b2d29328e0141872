"""Dataset rows as a reward model is trained on them: whole conversations, margins, confidence."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from curation.chat import ChatTemplate, TemplateError
from curation.rewards.scoring import conversation_ids
from curation.validation.row import Quarantined
from schemas.arrow import first_error
from schemas.records import Completion, Prompt, content_hash


class Comparison(NamedTuple):
    """A row's two answers to its prompt."""

    pair_id: str
    prompt: Prompt
    chosen: Completion
    rejected: Completion
    p_chosen: float | None
    weight: float
    margin: float


class RewardRow(NamedTuple):
    """One pair, ready for a batch; its sides differ."""

    pair_id: str
    chosen_ids: list[int]
    rejected_ids: list[int]
    p_chosen: float = 1.0
    weight: float = 1.0
    margin: float = 0.0

    @property
    def has_confidence(self) -> bool:
        return self.p_chosen != 1 or self.weight != 1


class RewardRows(NamedTuple):
    kept: list[RewardRow]
    quarantined: list[Quarantined]
    """The pairs of which a side is over the length limit, TOO_LONG."""


def read_comparisons(rows: Iterable[Mapping[str, Any]]) -> list[Comparison]:
    """The rows as `curation.formats.trl.read_dataset` gives them; a null margin is 0.

    Raises:
        ValueError: a row that no gate should have let through: it has no id, or another's, or its
            messages or numbers are not what they should be.
    """
    found: dict[str, Comparison] = {}
    for row in rows:
        if not row.get("pair_id"):
            raise ValueError(
                "a row of the dataset has no pair_id, so no step could be traced to it; train on a "
                "dataset that `pairwright export` wrote"
            )
        comparison = _comparison(row)
        if comparison.pair_id in found:
            raise ValueError(
                f"pair '{comparison.pair_id}' is in the dataset's split twice; run validate on it"
            )
        found[comparison.pair_id] = comparison
    return list(found.values())


def _comparison(row: Mapping[str, Any]) -> Comparison:
    pair_id = row["pair_id"]
    p_chosen = row.get("p_chosen")
    weight = 1.0 if row.get("weight") is None else row["weight"]
    margin = 0.0 if row.get("margin") is None else row["margin"]
    try:
        probable = p_chosen is None or 0.5 < p_chosen <= 1
        sane = probable and 0 < weight < math.inf and 0 <= margin < math.inf
    except TypeError:
        sane = False
    if not sane:
        raise ValueError(
            f"pair '{pair_id}': p_chosen is {p_chosen}, weight {weight} and margin {margin}; "
            "expected a probability above 0.5, as chosen is the better one, a finite weight above "
            "0 and a finite margin of at least 0"
        )
    try:
        return Comparison(
            pair_id=pair_id,
            prompt=Prompt.model_validate({"messages": row["prompt"], "tools": row.get("tools")}),
            chosen=Completion.model_validate({"messages": row["chosen"]}),
            rejected=Completion.model_validate({"messages": row["rejected"]}),
            p_chosen=None if p_chosen is None else float(p_chosen),
            weight=float(weight),
            margin=float(margin),
        )
    except ValidationError as error:
        raise ValueError(f"pair '{pair_id}': {first_error(error)}") from None


def tokenise_comparisons(
    comparisons: Sequence[Comparison], chat: ChatTemplate, max_length: int
) -> RewardRows:
    """The conversations' tokens, the very ones that `curation.rewards.model.RewardModel` scores.

    A pair with a side over `max_length` is left out and named: cut, its score would be read in the
    middle of an answer.

    Raises:
        ValueError: the template breaks on a row, or a pair's sides are the same tokens.
    """
    sides = conversation_ids(
        chat,
        [(item.prompt, side) for item in comparisons for side in (item.chosen, item.rejected)],
    )
    kept, quarantined = [], []
    for item, chosen, rejected in zip(comparisons, sides[::2], sides[1::2], strict=True):
        if isinstance(chosen, TemplateError) or isinstance(rejected, TemplateError):
            broken = chosen if isinstance(chosen, TemplateError) else rejected
            raise ValueError(f"pair '{item.pair_id}': {broken}")
        if chosen == rejected:
            raise ValueError(
                f"pair '{item.pair_id}': the template renders chosen and rejected alike, so its "
                "loss has no gradient; run validate with token_checks on"
            )
        if (longest := max(len(chosen), len(rejected))) > max_length:
            message = f"an answer goes up to token {longest}, beyond the limit of {max_length}"
            quarantined.append(Quarantined(row_id=item.pair_id, code="TOO_LONG", message=message))
            continue
        p_chosen = 1.0 if item.p_chosen is None else item.p_chosen
        kept.append(RewardRow(item.pair_id, chosen, rejected, p_chosen, item.weight, item.margin))
    return RewardRows(kept, quarantined)


def rows_hash(rows: Sequence[RewardRow]) -> str:
    """The hash of all that a training reads of its pairs."""
    return content_hash([list(row) for row in rows])

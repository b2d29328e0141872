"""Dataset rows as the token ids that are trained on, with the pair's confidence beside them."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pydantic import ValidationError

from curation.chat import ChatTemplate, Encoded, TemplateError
from schemas.arrow import first_error
from schemas.records import Completion, Prompt, content_hash

_ROWS_AT_ONCE = 512


class PairTokens(NamedTuple):
    """One pair, ready for a batch; neither side is empty and the sides differ."""

    pair_id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    p_chosen: float = 1.0
    weight: float = 1.0
    truncated: bool = False
    """Whether a side lost tokens to the length limit."""

    @property
    def longest(self) -> int:
        """Tokens of the prompt and its longer answer."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def has_confidence(self) -> bool:
        return self.p_chosen != 1 or self.weight != 1


def tokenise_pairs(
    rows: Iterable[Mapping[str, Any]], chat: ChatTemplate, max_length: int
) -> list[PairTokens]:
    """The rows' tokens as `chat` encodes them; a null p_chosen or weight is 1.

    Each side is cut on its own to the tokens that `max_length` leaves beside the prompt, before
    any padding.

    Raises:
        ValueError: a row that no gate should have let through: its template breaks, its prompt
            fills the limit, its sides are equal within the limit, its id is missing or another's.
    """
    pairs: dict[str, PairTokens] = {}
    waiting = iter(rows)
    while chunk := list(islice(waiting, _ROWS_AT_ONCE)):
        if not all(row.get("pair_id") for row in chunk):
            raise ValueError(
                "a row of the training split has no pair_id, so no step could be traced to it; "
                "train on a dataset that `pairwright export` wrote"
            )
        sides = chat.encode_batch([side for row in chunk for side in _conversations(row)])
        for row, chosen, rejected in zip(chunk, sides[::2], sides[1::2], strict=True):
            pair = _pair(row, chosen, rejected, max_length)
            if pair.pair_id in pairs:
                raise ValueError(
                    f"pair '{pair.pair_id}' is in the training split twice; run validate on it"
                )
            pairs[pair.pair_id] = pair
    return list(pairs.values())


def _conversations(row: Mapping[str, Any]) -> list[tuple[Prompt, Completion]]:
    tools = row.get("tools")
    try:
        tools = json.loads(tools) if isinstance(tools, str) else tools
        prompt = Prompt.model_validate({"messages": row["prompt"], "tools": tools})
        return [
            (prompt, Completion.model_validate({"messages": row[side]}))
            for side in ("chosen", "rejected")
        ]
    except ValidationError as error:
        raise ValueError(f"pair '{row['pair_id']}': {first_error(error)}") from None
    except ValueError as error:
        raise ValueError(f"pair '{row['pair_id']}': its tools are not JSON: {error}") from None


def _pair(
    row: Mapping[str, Any],
    chosen: Encoded | TemplateError,
    rejected: Encoded | TemplateError,
    max_length: int,
) -> PairTokens:
    pair_id = row["pair_id"]
    if isinstance(chosen, TemplateError) or isinstance(rejected, TemplateError):
        broken = chosen if isinstance(chosen, TemplateError) else rejected
        raise ValueError(f"pair '{pair_id}': {broken}")
    if chosen.prompt_ids != rejected.prompt_ids:
        raise ValueError(
            f"pair '{pair_id}': the template renders the prompt differently before chosen and "
            "before rejected; run validate with token_checks on"
        )
    room = max_length - len(chosen.prompt_ids)
    if room < 1:
        raise ValueError(
            f"pair '{pair_id}': its prompt has {len(chosen.prompt_ids)} tokens and fills "
            f"max_length {max_length}; raise max_length or run validate with token_checks on"
        )
    sides = chosen.completion_ids[:room], rejected.completion_ids[:room]
    if sides[0] == sides[1]:
        raise ValueError(
            f"pair '{pair_id}': chosen and rejected are the same within max_length {max_length}, "
            "so its loss has no gradient; raise max_length or run validate with token_checks on"
        )
    p_chosen = 1.0 if row.get("p_chosen") is None else row["p_chosen"]
    weight = 1.0 if row.get("weight") is None else row["weight"]
    numbers = isinstance(p_chosen, int | float) and isinstance(weight, int | float)
    if not (numbers and 0.5 < p_chosen <= 1 and 0 < weight < math.inf):
        raise ValueError(
            f"pair '{pair_id}': p_chosen is {p_chosen} and weight {weight}; expected a probability "
            "above 0.5, as chosen is the better one, and a finite weight above 0"
        )
    return PairTokens(
        pair_id=pair_id,
        prompt_ids=chosen.prompt_ids,
        chosen_ids=sides[0],
        rejected_ids=sides[1],
        p_chosen=float(p_chosen),
        weight=float(weight),
        truncated=max(len(chosen.completion_ids), len(rejected.completion_ids)) > room,
    )


def tokens_hash(pairs: Sequence[PairTokens]) -> str:
    """The hash of ids and tokens: another template or tokenizer is another hash."""
    return content_hash([pair[:4] for pair in pairs])

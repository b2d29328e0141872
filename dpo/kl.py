"""How far a policy has moved from its base: exact KL at every token of the policy's own answers.

At each position of an answer that the policy sampled, KL(policy || base) is summed over the whole
vocabulary, not read off the one token that was drawn: no value is negative, and the sampling error
that remains is that of the contexts alone. Both distributions are the models' own, at temperature
1 and without top-p or top-k, whatever the answers were sampled with.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.records import Prompt

if TYPE_CHECKING:
    import torch

    from curation.models import Policy

_LOGITS_A_BATCH = 2**26
"""Logits that one forward pass holds: 256 MB in float32."""


def estimator(other: str) -> str:
    """What is measured, in words."""
    return (
        f"KL(policy || {other}) in nats, exact over the vocabulary at each token of the policy's "
        "own answers, averaged over tokens; both models at temperature 1"
    )


class _Row(NamedTuple):
    ids: list[int]
    """Prompt and answer."""
    start: int
    """Where the answer begins."""


def not_comparable(policy: "Policy", base: "Policy") -> str | None:
    """Why there is no KL between the two; None where there is."""
    same_size = policy.model.config.vocab_size == base.model.config.vocab_size
    if same_size and policy.tokenizer.get_vocab() == base.tokenizer.get_vocab():
        return None
    return "policy and base have different vocabularies, so KL between them is not defined"


def kl_per_token(
    policy: "Policy", base: "Policy", answers: Sequence[tuple[Prompt, Sequence[int]]]
) -> list[float | None]:
    """The mean KL over the tokens of each answer, in nats; None for an answer without tokens.

    An answer is its prompt and the token ids that were sampled. Prompt tokens do not count; the
    end-of-sequence token does. `base` may hold the policy's own model object if that carries an
    adapter: the base is then the model with its adapter off.

    Raises:
        ValueError: a model gives logits that are not finite.
    """
    rows = [_row(policy.chat.prompt_ids(prompt), token_ids) for prompt, token_ids in answers]
    found: list[float | None] = [None] * len(rows)
    tokens = max(1, _LOGITS_A_BATCH // policy.model.config.vocab_size)
    for batch in _batches(rows, tokens):
        for index, value in zip(batch, _batch_kl(policy, base, rows, batch), strict=True):
            if not math.isfinite(value):
                raise ValueError(
                    f"KL of '{policy.name}' to '{base.name}' on prompt '{answers[index][0].id}' is "
                    f"{value}: a model's logits are not finite; try dtype float32"
                )
            found[index] = max(value, 0.0)
    return found


def base_weights(policy: "Policy", base: "Policy") -> contextlib.AbstractContextManager[Any]:
    """A scope in which `base.model` acts as the base, also where it is the policy's own object.

    Raises:
        ValueError: the two are one object without an adapter to switch off.
    """
    if base.model is not policy.model:
        return contextlib.nullcontext()
    if not hasattr(policy.model, "disable_adapter"):
        raise ValueError(
            f"base and policy '{policy.name}' are one model without an adapter; load the base apart"
        )
    scope: contextlib.AbstractContextManager[Any] = policy.model.disable_adapter()
    return scope


def _row(prompt_ids: Sequence[int], token_ids: Sequence[int]) -> _Row:
    return _Row([*prompt_ids, *token_ids], len(prompt_ids))


def _batches(rows: Sequence[_Row], tokens: int) -> Iterator[list[int]]:
    """Indices of rows with an answer, in batches of like length, padded to at most `tokens`."""
    batch: list[int] = []
    order = [index for index, row in enumerate(rows) if len(row.ids) > row.start]
    for index in sorted(order, key=lambda index: len(rows[index].ids)):
        if batch and (len(batch) + 1) * len(rows[index].ids) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _batch_kl(
    policy: "Policy", base: "Policy", rows: Sequence[_Row], batch: Sequence[int]
) -> list[float]:
    import torch

    lengths = [len(rows[index].ids) for index in batch]
    longest = max(lengths)
    padded = torch.tensor([rows[i].ids + [0] * (longest - len(rows[i].ids)) for i in batch])
    at = torch.arange(longest)  # (T,)
    attention = (at < torch.tensor(lengths)[:, None]).long()  # (B, T)
    # The logits at position t are about token t + 1.
    starts = torch.tensor([rows[index].start for index in batch])[:, None]
    predicts = (at >= starts - 1) & (at < torch.tensor(lengths)[:, None] - 1)  # (B, T)
    with torch.inference_mode():
        policy_logps = _logps(policy, padded, attention, predicts)  # (N, V)
        with base_weights(policy, base):
            base_logps = _logps(base, padded, attention, predicts).to(policy_logps.device)
    per_token = (policy_logps.exp() * (policy_logps - base_logps)).sum(-1)  # (N,)
    parts = torch.split(per_token, predicts.sum(-1).tolist())
    return [part.mean().item() for part in parts]


def _logps(
    model: "Policy", ids: "torch.Tensor", attention: "torch.Tensor", where: "torch.Tensor"
) -> "torch.Tensor":
    """Log-probabilities (N, V) in float32 at the N positions (B, T) that `where` marks."""
    device = model.model.device
    logits = model.model(input_ids=ids.to(device), attention_mask=attention.to(device)).logits
    selected: torch.Tensor = logits[where.to(device)].float().log_softmax(-1)
    return selected

"""Log-probabilities of completions under a model: tensors in, tensors out."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def token_logps(logits: "Tensor", ids: "Tensor") -> "Tensor":
    """The log-probability of each token given those before it, (B, T - 1) in float32 or better.

    Entry `[b, t - 1]` belongs to token `ids[b, t]`, because `logits[b, t - 1]` predicts it. Nothing
    predicts a row's first token, so it has no entry.

    logits: (B, T, V); ids: (B, T).
    """
    predicting = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
    of_token = predicting.gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    return of_token - predicting.logsumexp(dim=-1)


def completion_logps(logits: "Tensor", ids: "Tensor", completion_mask: "Tensor") -> "Tensor":
    """The summed log-probability of each row's completion tokens, (B,) in float32 or better.

    The mask marks the tokens that are scored, not the positions that predict them; prompt and
    padding are 0 in it. A row without a completion token sums to 0.

    logits: (B, T, V); ids: (B, T); completion_mask: (B, T), 0 or 1.
    """
    scored = completion_mask[:, 1:].bool()
    # Masked with where, not multiplied: -inf on a padding token times 0 would be NaN.
    return token_logps(logits, ids).where(scored, 0.0).sum(dim=-1)

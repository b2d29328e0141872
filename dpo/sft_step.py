"""What one optimiser step of supervised fine-tuning saw and did."""

from schemas.records import Record


class SftStep(Record):
    """One optimiser step, over all its micro-batches and processes."""

    step: int
    """From 1."""
    epoch: float
    """Epochs done after the step."""
    loss: float
    """Mean over the step's trained tokens, before the step."""
    tokens: int
    """How many tokens were trained on."""
    learning_rate: float | None = None
    grad_norm: float | None = None
    """Before clipping."""
    row_ids: tuple[str, ...]
    """Content hashes of the conversations, in the order of the epoch's shuffle."""

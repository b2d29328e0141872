"""The policy with a value head beside its language-model head: logits and values of answers.

Rows are laid out so that all answers begin in one column: prompts are padded on the left, answers
on the right. Masks and positions come from lengths, never from comparing ids: the pad token may be
the end-of-sequence token.
"""

import contextlib
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from dpo.logps import token_logps

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PADDING = 0
"""Any id will do, as no mask looks at it."""


class TokenRow(NamedTuple):
    """A prompt and the answer that was sampled, end-of-sequence token included."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]


class PaddedRows(NamedTuple):
    """Rows as a model takes them, P prompt columns before T answer columns."""

    ids: Tensor
    """(B, P + T)."""
    attention: Tensor
    """(B, P + T), 1 at real tokens."""
    positions: Tensor
    """(B, P + T), from 0 at each row's first real token."""
    mask: Tensor
    """(B, T), whether there is a completion token."""


def padded(rows: Sequence[TokenRow], device: torch.device) -> PaddedRows:
    prompt_columns = max(len(row.prompt_ids) for row in rows)
    answer_columns = max(len(row.completion_ids) for row in rows)
    ids, attention = [], []
    for row in rows:
        left = prompt_columns - len(row.prompt_ids)
        right = answer_columns - len(row.completion_ids)
        tokens = [*row.prompt_ids, *row.completion_ids]
        ids.append([_PADDING] * left + tokens + [_PADDING] * right)
        attention.append([0] * left + [1] * len(tokens) + [0] * right)
    attended = torch.tensor(attention, device=device)
    return PaddedRows(
        ids=torch.tensor(ids, device=device),
        attention=attended,
        positions=(attended.cumsum(-1) - 1).clamp(min=0),
        mask=attended[:, prompt_columns:].bool(),
    )


class Outputs(NamedTuple):
    """What is said about each answer token before it is seen; padding holds anything."""

    logits: Tensor
    """(B, T, V) in float32, divided by the temperature."""
    logps: Tensor
    """(B, T), of the tokens that were sampled."""
    values: Tensor
    """(B, T)."""


class PolicyWithValue(nn.Module):
    """A causal model and a value head, one linear layer, on its last hidden state.

    Given a trunk, another causal model, the head is on the trunk's last hidden state instead. The
    head is float32 and begins at 0, so that all values do. Log-probs are those of the policy at the
    temperature that its answers are sampled with. Dropout stays off, as answers are sampled without
    it: a probability ratio would else compare two masks.
    """

    def __init__(
        self,
        policy: "PreTrainedModel",
        trunk: "PreTrainedModel | None" = None,
        *,
        temperature: float = 1.0,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.trunk = trunk
        self._temperature = temperature
        self._bf16 = bf16
        width = policy.get_output_embeddings().weight.shape[1]
        self.head = nn.Linear(width, 1, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.to(policy.device).eval()

    def forward(self, rows: PaddedRows) -> Outputs:
        with self.autocast():
            logits, hidden = _run(self.policy, rows)
            if self.trunk is not None:
                hidden = _hidden(self.trunk, rows)
        logits = logits.float() / self._temperature
        values = self.head(hidden[:, :-1].float()).squeeze(-1)
        return Outputs(logits[:, :-1], _logps(logits, rows), values)

    def logps_under(self, reference: "PreTrainedModel", rows: PaddedRows) -> Tensor:
        """The reference's log-probs of the answer tokens at the same temperature, (B, T)."""
        with self.autocast():
            logits = _run(reference, rows).logits
        return _logps(logits.float() / self._temperature, rows)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The scope in which the policy runs, when it samples as when it is scored."""
        device = self.policy.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self._bf16)

    def policy_parameters(self) -> list[nn.Parameter]:
        """The trainable weights of the policy, its trunk that the value may share included."""
        return [weight for weight in self.policy.parameters() if weight.requires_grad]

    def value_parameters(self) -> list[nn.Parameter]:
        """The trainable weights that serve the value alone."""
        alone = [*self.head.parameters(), *(self.trunk.parameters() if self.trunk else ())]
        return [weight for weight in alone if weight.requires_grad]


class _Run(NamedTuple):
    logits: Tensor
    """(B, 1 + T, V), from the prompt's last token on."""
    hidden: Tensor
    """(B, 1 + T, H): the last hidden state at the same tokens."""


def _run(model: "PreTrainedModel", rows: PaddedRows) -> _Run:
    """One forward pass; where the model allows it, prompts do not go through its head.

    The hidden state is caught on its way to the head: asked for, a model keeps every layer's.
    """
    columns = rows.mask.shape[1] + 1
    causal = _without_adapter(model)
    kept: list[Tensor] = []
    hook = causal.base_model.register_forward_hook(
        lambda module, inputs, output: kept.append(output.last_hidden_state)
    )
    try:
        logits = model(**_inputs(causal, rows, logits_to_keep=columns)).logits
    finally:
        hook.remove()
    return _Run(logits[:, -columns:], kept[0][:, -columns:])


def _hidden(model: "PreTrainedModel", rows: PaddedRows) -> Tensor:
    """The last hidden state as in `_Run`, (B, 1 + T, H); the head does not run."""
    trunk = _without_adapter(model).base_model
    hidden: Tensor = trunk(**_inputs(trunk, rows)).last_hidden_state
    return hidden[:, -rows.mask.shape[1] - 1 :]


def _without_adapter(model: "PreTrainedModel") -> Any:
    """The causal model itself, into whose layers an adapter is set."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _inputs(module: Any, rows: PaddedRows, **others: int) -> dict[str, Any]:
    """What the module takes of the rows; positions and others only where it knows them."""
    wanted = {"position_ids": rows.positions, **others}
    known = inspect.signature(module.forward).parameters
    return {
        "input_ids": rows.ids,
        "attention_mask": rows.attention,
        "use_cache": False,
        **{key: value for key, value in wanted.items() if key in known},
    }


def _logps(logits: Tensor, rows: PaddedRows) -> Tensor:
    return token_logps(logits, rows.ids[:, -logits.shape[1] :])

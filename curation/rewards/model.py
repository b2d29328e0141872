"""A sequence-classification reward model, with its own tokenizer and chat template."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from curation.chat import TemplateError
from curation.models import device_of, dtype_of, load_chat, model_folder, weights_hash
from curation.rewards.scoring import (
    conversation_ids,
    float32_head,
    length_limit,
    pad_with,
    padding_id,
)
from schemas.configs import ModelConfig
from schemas.records import Completion, Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RewardModel:
    """Scores each conversation by a model with one label; a `RewardFunction`.

    The conversation is rendered and tokenised by the reward model's own template and tokenizer,
    whatever the policy's are. A score does not depend on what else is in the batch, nor on the
    tokenizer's padding side: rows are padded on the right, and masked. Weights load at the first
    call.

    A conversation over `max_length` tokens is never cut: the model abstains, as it does on a row
    that its template does not render. `abstained` counts both, by reason.

    Raises:
        ValueError: there is no such model, it has no head with one label, `max_length` is more than
            it can read, or its template renders none of the rows, and no other.
        TemplateError: it has no chat template.
    """

    kind: ClassVar[Literal["reward_model"]] = "reward_model"

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        revision: str | None = None,
        batch_size: int = 16,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        dtype: Literal["auto", "float32", "bfloat16"] = "float32",
        chat_template: str | Path | None = None,
        system_role: Literal["error", "merge"] = "error",
        max_length: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(
                f"reward model '{path}': batch_size is {batch_size}; expected 1 or more"
            )
        self.name = name or Path(path).name
        self.abstained: Counter[str] = Counter()
        self._batch_size = batch_size
        self._config = ModelConfig(
            path=path,
            revision=revision,
            chat_template=None if chat_template is None else Path(chat_template),
            system_role=system_role,
            dtype=dtype,
            device=device,
        )
        self._chat = load_chat(self._config)
        self._max_length = self._length_limit(max_length)

    @cached_property
    def weights(self) -> str:
        """The hash of the weights: what the model is, wherever it lies."""
        return weights_hash(self._config)

    @property
    def template(self) -> str:
        """The hash of the chat template as it is rendered."""
        return self._chat.hash

    def check(self, prompt: Prompt) -> None:
        """Nothing, if the model's template renders the prompt.

        Raises:
            TemplateError: it does not.
        """
        self._chat.prompt_text(prompt)

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        rows = self._encode(prompts, completions)
        scores: list[float | None] = [None] * len(rows)
        kept = [index for index, row in enumerate(rows) if row is not None]
        kept.sort(key=lambda index: (len(rows[index] or ()), index))
        for start in range(0, len(kept), self._batch_size):
            batch = kept[start : start + self._batch_size]
            values = self._forward([rows[index] or [] for index in batch])
            for index, value in zip(batch, values, strict=True):
                scores[index] = value
        return scores

    def _encode(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[list[int] | None]:
        """The tokens of each conversation; None where the model has to abstain."""
        encoded = conversation_ids(self._chat, list(zip(prompts, completions, strict=True)))
        errors = [row for row in encoded if isinstance(row, TemplateError)]
        if errors and len(errors) == len(encoded):
            self._refuse_template(errors)
        rows: list[list[int] | None] = []
        for row in encoded:
            if isinstance(row, TemplateError):
                self.abstained[row.code] += 1
                rows.append(None)
                continue
            too_long = self._max_length is not None and len(row) > self._max_length
            self.abstained.update(["TOO_LONG"] * too_long)
            rows.append(None if too_long else row)
        return rows

    def _refuse_template(self, errors: Sequence[TemplateError]) -> None:
        """Refuse a template that renders nothing at all: a few odd rows may be a whole batch."""
        plain = Prompt(messages=(Message(role="user", content="Question"),))
        answer = self._chat.completion(plain, self._chat.template.opening.sample())
        (row,) = conversation_ids(self._chat, [(plain, answer)])
        if isinstance(row, TemplateError):
            raise ValueError(
                f"reward model '{self._config.path}' can read none of {len(errors)} rows; the "
                f"first: {errors[0]}"
            ) from errors[0]

    def _forward(self, rows_bt: list[list[int]]) -> list[float]:
        """One score a row; the rows may differ in length."""
        import torch

        model = self._model
        pad = padding_id(self._chat.tokenizer, (row[-1] for row in rows_bt))
        width = max(len(row) for row in rows_bt)
        ids_bt = torch.tensor([row + [pad] * (width - len(row)) for row in rows_bt])
        mask_bt = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows_bt])
        pad_with(model, pad)
        with torch.inference_mode():
            logits_b1 = model(
                input_ids=ids_bt.to(model.device), attention_mask=mask_bt.to(model.device)
            ).logits
        scores: list[float] = logits_b1.float()[:, 0].tolist()
        return scores

    def _length_limit(self, asked: int | None) -> int | None:
        limit = length_limit(self._config)
        if asked is not None and limit is not None and asked > limit:
            raise ValueError(
                f"reward model '{self._config.path}': max_length is {asked} but it reads at most "
                f"{limit} tokens"
            )
        return asked or limit

    @cached_property
    def _model(self) -> "PreTrainedModel":
        from transformers import AutoModelForSequenceClassification

        path = self._config.path
        try:
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                model_folder(self._config),
                revision=self._config.revision,
                dtype=dtype_of(self._config),
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"reward model '{path}' cannot be loaded: {error}") from error
        if loaded["missing_keys"]:
            missing = ", ".join(sorted(loaded["missing_keys"]))
            raise ValueError(
                f"reward model '{path}' has no trained {missing}; expected a model saved after "
                "reward training (AutoModelForSequenceClassification), not a language model"
            )
        if model.config.num_labels != 1:
            raise ValueError(
                f"reward model '{path}' has {model.config.num_labels} labels; expected 1"
            )
        model.config.use_cache = False
        float32_head(model)
        model.requires_grad_(False)
        return model.to(device_of(self._config)).eval()

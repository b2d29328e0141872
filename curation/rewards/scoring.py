"""How a sequence-classification model is given a conversation and gives it a score.

A reward model is trained and asked through these functions alike: the same tokens, the end of the
answer included; the score read at the last of them; the head in float32.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, autocast, nn

from curation.chat import ChatTemplate, TemplateError
from curation.models import model_folder
from schemas.configs import ModelConfig
from schemas.records import Completion, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def conversation_ids(
    chat: ChatTemplate, items: Sequence[tuple[Prompt, Completion]]
) -> list[list[int] | TemplateError]:
    """The tokens of each whole conversation, or why its template does not render it."""
    # Whether an answer is whole does not matter here; the template ends it in either case.
    ended = [
        (prompt, completion.model_copy(update={"finish_reason": "length"}))
        for prompt, completion in items
    ]
    return [
        row if isinstance(row, TemplateError) else row.prompt_ids + row.completion_ids
        for row in chat.encode_batch(ended)
    ]


def length_limit(config: ModelConfig) -> int | None:
    """How many tokens the model can read at most; None where its config does not say."""
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(model_folder(config), revision=config.revision)
    limit: int | None = getattr(found.get_text_config(), "max_position_embeddings", None)
    return limit


def check_positions(longest: int, config: ModelConfig, setting: str) -> None:
    """Return if the model can read a row of so many tokens.

    Raises:
        ValueError: TOO_LONG; `setting` would have cut it.
    """
    limit = length_limit(config)
    if limit is not None and longest > limit:
        raise ValueError(
            f"TOO_LONG: a row to train on has {longest} tokens but model '{config.path}' reads at "
            f"most {limit}; set {setting} to {limit} or less"
        )


def padding_id(tokenizer: Any, last_ids: Iterable[int]) -> int:
    """An id to pad rows with that ends none of them: the tokenizer's own pad token if it can be.

    transformers reads the score at the last token that is not the config's pad token. Where the
    end of an answer is that very token, the score would be read one token too early.
    """
    taken = set(last_ids)
    own = tokenizer.pad_token_id
    if own is not None and own not in taken:
        return int(own)
    every_id = range(len(taken) + 1)
    return next(int(id_) for id_ in (*tokenizer.all_special_ids, *every_id) if id_ not in taken)


def pad_with(model: "PreTrainedModel", id_: int) -> None:
    """Let the model take this id for padding when it looks for the last token."""
    model.config.get_text_config().pad_token_id = id_


def head_names(model: "PreTrainedModel") -> list[str]:
    """The parts that make a score of hidden states: all with weights but the trunk."""
    return [
        name
        for name, part in model.named_children()
        if name != model.base_model_prefix and next(part.parameters(), None) is not None
    ]


def float32_head(model: "PreTrainedModel") -> None:
    """Let the head compute in float32, whatever the trunk's dtype is and under autocast too.

    In bfloat16 two scores near 1 differ by 0.008 or not at all.
    """
    for name in head_names(model):
        for module in model.get_submodule(name).modules():
            if type(module) is nn.Linear:
                module.float()
                module.__class__ = _Float32Linear


class _Float32Linear(nn.Linear):
    def forward(self, hidden: Tensor) -> Tensor:
        with autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())

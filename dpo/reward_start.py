"""A reward model at both ends of its training: a language model with a new head, a whole folder."""

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.models import check_whole, model_folder, plain_errors
from curation.pinned import own_text
from curation.rewards.scoring import float32_head, head_names
from dpo.policy import load_start
from schemas.configs import LoraConfig, ModelConfig

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


def load_reward_start(
    base: ModelConfig, lora: LoraConfig | None, seed: int
) -> "tuple[PreTrainedModel, PeftConfig | None]":
    """The model to train, with one label, and the adapter that TRL is to put on it.

    A head that the base has is trained on; a new one is drawn with the seed, alike in every
    process. The base's own adapter is merged into the trunk. Under LoRA the head is trained whole.

    Raises:
        ValueError: the base cannot be loaded, lacks weights, or has a head with other labels.
    """
    import peft
    import torch
    from transformers import AutoModelForSequenceClassification, set_seed

    frozen_bf16 = base.dtype == "bfloat16" and lora is not None
    set_seed(seed)
    name = f"reward model's base '{base.path}'"
    with _new_head_is_no_surprise(), plain_errors(f"{name} cannot be loaded"):
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            model_folder(base),
            revision=base.revision,
            dtype=torch.bfloat16 if frozen_bf16 else torch.float32,
            num_labels=1,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    if loaded["mismatched_keys"]:
        weight, found, expected = min(loaded["mismatched_keys"])
        raise ValueError(
            f"{name} has {weight} of shape {tuple(found)}; expected {tuple(expected)}: a language "
            "model, or a reward model with one label"
        )
    heads = tuple(f"{head}." for head in head_names(model))
    check_whole((key for key in loaded["missing_keys"] if not key.startswith(heads)), name)
    if base.adapter is not None:
        merged, _ = load_start(base, None)
        model.base_model.load_state_dict(merged.base_model.state_dict())
    model.config.use_cache = False
    float32_head(model)
    if lora is None:
        return model, None
    targets = lora.target_modules
    return model, peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        modules_to_save=head_names(model),
        task_type="SEQ_CLS",
    )


@contextmanager
def _new_head_is_no_surprise() -> Iterator[None]:
    """Without transformers' report that the head is new: it is about to be trained."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def save_reward_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Put the model, its adapter merged, and its tokenizer in the folder, whole or not at all.

    The tokenizer keeps the template as it was trained under, the date and the merged roles in it,
    and the pad token: whoever loads the folder scores the tokens that were trained.
    """
    tokenizer = copy.copy(tokenizer)
    template = tokenizer.chat_template
    tokenizer.chat_template = (
        {name: _fixed(text) for name, text in template.items()}
        if isinstance(template, dict)
        else _fixed(template)
    )
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    whole = model
    if hasattr(model, "merge_and_unload"):
        # In bfloat16 a merge would round most of what was learned away.
        whole = model.float().merge_and_unload()
    whole.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _fixed(template: str) -> str:
    """The template with the lines that pairwright wrote in front of it made its own.

    Else whoever loads it next would take them out and pin a date and a merge of his own.
    """
    own = own_text(template)
    lines, comment, _ = template.removesuffix(own).rpartition("{#")
    return f"{lines}{{# trained under the lines above #}}\n{own}" if comment else template

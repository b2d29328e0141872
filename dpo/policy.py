"""The policy at both ends of training: how it starts, and how it is saved."""

import contextlib
import copy
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from curation.models import load_language_model, model_folder, read_template
from schemas.configs import LoraConfig, ModelConfig

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PreTrainedModel

_ROUNDED_TIES = 0.01
_REFERENCE = "reference"
"""What a frozen copy of the SFT model's own adapter is called beside the one that trains."""


@contextlib.contextmanager
def without_rename_warnings() -> Iterator[None]:
    """Ignore that peft and TRL ask a model by a name which transformers 6 will drop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def bf16_by_default(model: ModelConfig, device: "torch.device") -> bool:
    """Whether training runs under bf16 autocast where nobody says more than `model` does.

    On a GPU that can, unless `model.dtype` is float32.
    """
    import torch

    if device.type == "cpu" or model.dtype == "float32":
        return False
    return bool(torch.cuda.is_bf16_supported())


def load_start(
    model: ModelConfig, lora: LoraConfig | None
) -> "tuple[PreTrainedModel, PeftConfig | None]":
    """The model to train, and the adapter that TRL is to put on it.

    An SFT model's own adapter is trained on where LoRA is asked for, and merged where all weights
    are: either way the policy starts as the SFT model, adapter included.
    """
    import peft
    import torch

    # bf16 weights are for LoRA alone: frozen, they cost nothing but memory is halved.
    frozen_bf16 = model.dtype == "bfloat16" and lora is not None
    dtype = torch.bfloat16 if frozen_bf16 else torch.float32
    with without_rename_warnings():
        policy: Any = load_language_model(model, dtype, trainable=True)
    _make_savable(policy.generation_config, model)
    if model.adapter is not None:
        if lora is not None:
            _check_is_lora(policy, model)
            return policy, None
        policy = merge(policy)
        policy.requires_grad_(True)  # peft had frozen the weights under the adapter
    if lora is None:
        return policy, None
    targets = lora.target_modules
    return policy, peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def merge(policy: Any) -> Any:
    """The whole model, the adapter that lies on it merged into its weights.

    Where the adapter changes the embeddings or the head of a model that ties them, they part: one
    weight for both would give the other a change that it was not trained with.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper
    from torch.nn import Parameter

    embeddings, head = policy.get_input_embeddings(), policy.get_output_embeddings()
    if any(isinstance(end, BaseTunerLayer | ModulesToSaveWrapper) for end in (embeddings, head)):
        own = getattr(head, "base_layer", getattr(head, "original_module", head))
        own.weight = Parameter(own.weight.detach().clone())
        for config in (policy.config, policy.config.get_text_config()):
            config.tie_word_embeddings = False
    return policy.merge_and_unload()


def _check_is_lora(policy: Any, model: ModelConfig) -> None:
    """Return if the model's own adapter is one that can be trained on.

    Raises:
        ValueError: it is of another kind than LoRA.
    """
    kind = str(policy.peft_config["default"].peft_type.value)
    if kind != "LORA":
        raise ValueError(
            f"adapter '{model.adapter}' is of the kind {kind}; expected LoRA to train on, so merge "
            "it into the model first"
        )


def _make_savable(generation: Any, model: ModelConfig) -> None:
    """Let transformers save the settings that the model generates with, once it is trained.

    Some models come with a temperature and without `do_sample`, which transformers loads but does
    not save: those are sampled from, as who wrote a temperature wants it.

    Raises:
        ValueError: it is not enough to let them be saved.
    """
    try:
        generation.validate(strict=True)
        return
    except ValueError:
        generation.do_sample = True
    try:
        generation.validate(strict=True)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the generation_config.json of model '{model.path}' could not be saved with the "
            f"policy; mend it first: {reason[:300]}"
        ) from error


def load_with_adapter(
    model: ModelConfig, lora: LoraConfig | None, *, seed: int
) -> "PreTrainedModel":
    """The model to train where TRL is not there to put the adapter on; the seed initialises it."""
    import peft
    import torch

    policy, adapter = load_start(model, lora)
    if adapter is None:
        return policy
    with torch.random.fork_rng(), without_rename_warnings():
        torch.manual_seed(seed)
        adapted: Any = peft.get_peft_model(policy, adapter)
    return cast("PreTrainedModel", adapted)


class FrozenStart:
    """The policy as it was before training: what its KL is measured from.

    With LoRA it is the policy's own weights with the adapter off, or under a frozen copy of the
    adapter that the SFT model came with; without LoRA it is a frozen copy of the whole model.
    """

    def __init__(self, policy: "PreTrainedModel", model: ModelConfig) -> None:
        """Made before the policy trains; `model` is what it was loaded from."""
        self._policy: Any = policy
        self._copy: Any = None
        self._own_adapter = model.adapter is not None
        if not hasattr(policy, "peft_config"):
            self._copy = copy.deepcopy(policy).requires_grad_(False)
        elif model.adapter is not None:
            adapter = str(Path(model.adapter).expanduser())
            self._policy.load_adapter(adapter, _REFERENCE, is_trainable=False)

    @contextlib.contextmanager
    def weights(self) -> "Iterator[PreTrainedModel]":
        """A scope in which the model that it gives is the start."""
        if self._copy is not None:
            yield self._copy
        elif self._own_adapter:
            self._policy.set_adapter(_REFERENCE, inference_mode=True)
            try:
                yield self._policy
            finally:
                self._policy.set_adapter("default")
        else:
            with self._policy.disable_adapter():
                yield self._policy


def save_weights(policy: Any, folder: str) -> None:
    """Put the policy's adapter, or all its weights where it has none, in the folder."""
    adapter = {"selected_adapters": ["default"]} if hasattr(policy, "peft_config") else {}
    policy.save_pretrained(folder, **adapter)


def ties_note(policy: "PreTrainedModel", section: str, *, full: bool, asked: bool) -> str | None:
    """Why weights may not train under bf16 autocast; None where they may.

    asked: the user's own `trainer.bf16`, which is not overruled.
    """
    share = bf16_ties(policy, full=full)
    if share <= _ROUNDED_TIES:
        return None
    remedy = f"leave bf16 out of {section}.trainer to train" if asked else "training runs"
    return (
        f"BF16_TIES: {share:.1%} of the weights lie halfway between two bf16 values, as weights "
        "that were once quantised do, so that the smallest update flips them all in autocast; "
        f"{remedy} in float32"
    )


def precision_of(policy: "PreTrainedModel", *, bf16: bool, fp16: bool = False) -> str:
    """The dtype of the weights, and that of autocast where there is one."""
    autocast = " autocast bf16" if bf16 else " autocast fp16" if fp16 else ""
    return f"{str(policy.dtype).removeprefix('torch.')}{autocast}"


def bf16_ties(policy: "PreTrainedModel", *, full: bool) -> float:
    """The share of the trained float32 weights that lie exactly between two bf16 values.

    Chance alone gives 2^-16. Only the first million weights of a tensor are looked at. An adapter
    is initialised at random, so LoRA trains none of them.
    """
    import torch

    if not full:
        return 0.0
    ties = seen = 0
    for weight in policy.parameters():
        if weight.dtype == torch.float32:
            low_bits = weight.detach().flatten()[:1_000_000].view(torch.int32) & 0xFFFF
            ties += int((low_bits == 0x8000).sum())
            seen += low_bits.numel()
    return ties / max(seen, 1)


def trainable_parameters(policy: "PreTrainedModel") -> int:
    """How many weights take a gradient.

    Raises:
        ValueError: none does.
    """
    count: int = sum(weight.numel() for weight in policy.parameters() if weight.requires_grad)
    if not count:
        raise ValueError(
            "NOTHING_TRAINABLE: no weight of the policy takes a gradient; its adapter may have "
            "been loaded for inference"
        )
    return count


def check_vocabulary(tokenizer: Any, reference: ModelConfig) -> None:
    """Return if the reference reads the policy's tokens as the policy does."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(model_folder(reference)).get_vocab()
    if theirs != tokenizer.get_vocab():
        raise ValueError(
            f"dpo.reference '{reference.path}' has another vocabulary ({len(theirs)} tokens) than "
            f"the policy ({len(tokenizer.get_vocab())}); a reference must share the policy's tokens"
        )


def save_policy(
    write: Callable[[str], object], folder: Path, model: ModelConfig, first: bool
) -> None:
    """Put what `write` saves, and the model's tokenizer, in the folder whole or not at all.

    Every process calls it; `write` is given a folder and saves the weights, in the first alone.
    """
    from transformers import AutoTokenizer

    unfinished = folder.with_name(f".{folder.name}.tmp")
    if first:
        shutil.rmtree(unfinished, ignore_errors=True)
    write(str(unfinished))
    if not first:
        return
    # A pickle; the config is in the manifest.
    (unfinished / "training_args.bin").unlink(missing_ok=True)
    _sort_targets(unfinished / "adapter_config.json")
    # The model's own tokenizer, without the pinned date that we render with.
    tokenizer = AutoTokenizer.from_pretrained(model_folder(model), revision=model.revision)
    if model.chat_template is not None:
        tokenizer.chat_template = read_template(model.chat_template)
    (unfinished / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _sort_targets(adapter_config: Path) -> None:
    """Give an adapter's config the same bytes each time: peft writes a set in any order."""
    if adapter_config.exists():
        config = json.loads(adapter_config.read_text())
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()
        adapter_config.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def shape_notes(policy: Any, asked: LoraConfig, section: str) -> list[str]:
    """What to tell where an adapter that the model came with is trained on, in another shape."""
    trained = policy.peft_config["default"]
    dropout = f" nor its dropout {asked.dropout}" if asked.dropout else ""
    if (trained.r, trained.lora_alpha) == (asked.r, asked.alpha) and not dropout:
        return []
    return [
        f"ADAPTER_SHAPE: the SFT model's own adapter is trained on, with its r {trained.r} and "
        f"alpha {trained.lora_alpha}; {section}.lora's r {asked.r} and alpha {asked.alpha} are not "
        f"used{dropout}"
    ]

"""Load the policy and its tokenizer; a model's identity is the hash of its weights."""

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from curation.chat import ChatTemplate
from schemas.configs import ModelConfig
from schemas.records import content_hash

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BUNDLED = "smollm2-135m-instruct"
"""The `model.path` of the model that the `demo` extra brings."""


class Policy(NamedTuple):
    """A model ready to sample from: eval mode, left padding, its chat template."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    chat: ChatTemplate
    weights: str
    """The hash of the weights, adapter included."""
    name: str
    """The path or hub name that the user gave."""


def load_policy(config: ModelConfig) -> Policy:
    """The model with its adapter, ready to generate; no weight requires a gradient.

    Raises:
        ValueError: as `load_language_model`, or the device has no room for it.
        TemplateError: the tokenizer has no usable chat template.
    """
    chat = load_chat(config)
    weights = weights_hash(config)
    model, device = load_language_model(config, dtype_of(config)), device_of(config)
    with plain_errors(f"model '{config.path}' cannot be moved to the {device.type}"):
        model.to(device)
    model.requires_grad_(False)
    model.eval()
    return Policy(model, chat.tokenizer, chat, weights, config.path)


def load_language_model(
    config: ModelConfig, dtype: "torch.dtype", *, trainable: bool = False
) -> "PreTrainedModel":
    """The model with its adapter on it, which is to be trained on where `trainable` says so.

    Raises:
        ValueError: the model or its adapter is not there, lacks weights, is no causal language
            model, or does not fit into memory.
    """
    from transformers import AutoModelForCausalLM

    with plain_errors(f"model '{config.path}' cannot be loaded"):
        model, loaded = AutoModelForCausalLM.from_pretrained(
            model_folder(config), revision=config.revision, dtype=dtype, output_loading_info=True
        )
    check_whole(loaded["missing_keys"], f"model '{config.path}'")
    if config.adapter is None:
        return cast("PreTrainedModel", model)
    from peft import PeftModel

    adapter = _adapter_folder(config.adapter)
    unfit = f"adapter '{config.adapter}' does not fit model '{config.path}'"
    with plain_errors(unfit), warnings.catch_warnings():
        # peft only warns, and goes on with an adapter that does nothing.
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
        try:
            adapted: Any = PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
        except UserWarning as missing:
            first = next(iter(re.findall("'(.+?)'", str(missing))), str(missing))
            raise ValueError(f"its weights lack {first}, among others") from None
    return cast("PreTrainedModel", adapted)


def check_whole(missing: Iterable[str], name: str) -> None:
    """Return if no weight is missing: transformers would draw it at random and only warn.

    Raises:
        ValueError: one is.
    """
    if names := sorted(missing):
        raise ValueError(
            f"{name} has no weights for {names[0]}, one of {len(names)} that would be drawn at "
            "random; expected a whole language model, as transformers saves it"
        )


def load_chat(config: ModelConfig) -> ChatTemplate:
    """The model's chat template and tokenizer, without its weights.

    A tokenizer without a pad token that the model has an embedding for pads with its
    end-of-sequence token, or that of the template, and the template's report says so.

    Raises:
        ValueError: there is no such model, the template file is missing, the adapter was saved
            with another template, or the tokenizer writes tokens that the model has no embedding
            for (VOCAB_MISMATCH).
        TemplateError: the tokenizer has no usable chat template.
    """
    from transformers import AutoTokenizer

    template = None if config.chat_template is None else read_template(config.chat_template)
    folder = model_folder(config)
    with plain_errors(_failure(config, folder, "tokenizer")):
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=config.revision)
    embedded = vocabulary_of(config)
    pad_on_the_left(tokenizer, embedded)
    chat = ChatTemplate(
        tokenizer, template=template, date=config.date, system_role=config.system_role
    )
    if chat.tokenizer.pad_token is None:
        chat.tokenizer.pad_token = chat.template.terminator
    # What stands in a text; a special token is none, and padding may lie beyond the embeddings.
    added = (id_ for id_, token in tokenizer.added_tokens_decoder.items() if not token.special)
    highest = max([tokenizer.vocab_size - 1, *added, *chat.template.written_ids])
    if embedded is not None and highest >= embedded:
        raise ValueError(
            f"VOCAB_MISMATCH: the tokenizer of model '{config.path}' writes token {highest} but "
            f"the model has embeddings for {embedded} tokens; give it its own tokenizer and "
            "template, or resize its embeddings"
        )
    if config.adapter is not None and template is None:
        _check_adapter_template(Path(config.adapter).expanduser(), chat, config)
    return chat


def read_template(file: Path) -> str:
    """The chat template in the file, without the byte order mark of some editors.

    Raises:
        ValueError: the file cannot be read, or is no text in UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"chat template '{file}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"chat template '{file}' is not in UTF-8; save it as UTF-8") from error


def _check_adapter_template(adapter: Path, chat: ChatTemplate, config: ModelConfig) -> None:
    """Return if the template that lies beside the adapter, if any, renders as the model's own.

    Raises:
        ValueError: it does not, so the adapter was trained under another.
    """
    file = adapter / "chat_template.jinja"
    if not file.is_file():
        return
    theirs = ChatTemplate(
        chat.tokenizer,
        template=read_template(file),
        date=config.date,
        system_role=config.system_role,
    )
    talk = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    if any(
        theirs.template.try_render(messages, add_generation_prompt=True)
        != chat.template.try_render(messages, add_generation_prompt=True)
        for messages in (talk[:1], talk)
    ):
        raise ValueError(
            f"adapter '{config.adapter}' was saved with another chat template than that of model "
            f"'{config.path}'; say which with model.chat_template (the adapter's is '{file}')"
        )


def vocabulary_of(config: ModelConfig) -> int | None:
    """How many tokens the model has embeddings for; None where its config does not say."""
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(model_folder(config), revision=config.revision)
    except (OSError, ValueError):
        return None  # told when the model itself is loaded
    size: int | None = getattr(found.get_text_config(), "vocab_size", None)
    return size


def pad_on_the_left(tokenizer: "PreTrainedTokenizerBase", embedded: int | None) -> None:
    """Let the tokenizer pad on the left, with a token that the model has an embedding for."""
    tokenizer.padding_side = "left"
    pad = tokenizer.pad_token_id
    if pad is None or (embedded is not None and pad >= embedded):
        # Padding is masked by length, so any token will do.
        tokenizer.pad_token = tokenizer.eos_token


def model_folder(config: ModelConfig) -> Path | str:
    """The folder that holds the model, or the name under which the hub knows it.

    Raises:
        ValueError: the folder is not there, or holds no model.
    """
    if config.path == BUNDLED:
        from curation.bundled import bundled_model_path

        return bundled_model_path()
    folder = Path(config.path).expanduser()
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(
            f"model folder '{config.path}' holds an adapter; give it as model.adapter, and the "
            "model that it was trained on as model.path"
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(
            f"model folder '{config.path}' has no config.json; expected what transformers saves"
        )
    if folder.is_dir():
        return folder
    if config.path.startswith((".", "/", "~")) or config.path.count("/") > 1:
        raise ValueError(f"model folder '{config.path}' does not exist")
    return config.path


def device_of(config: ModelConfig) -> "torch.device":
    """The device that `model.device` names; auto is the GPU where there is one.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ValueError("model.device is 'cuda' but this machine has no usable GPU; use 'auto'")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def dtype_of(config: ModelConfig) -> "torch.dtype":
    """The dtype that `model.dtype` names; auto is float32 on a CPU and bfloat16 on a GPU."""
    import torch

    if config.dtype == "auto":
        return torch.float32 if device_of(config).type == "cpu" else torch.bfloat16
    return torch.float32 if config.dtype == "float32" else torch.bfloat16


def weights_hash(config: ModelConfig) -> str:
    """The hash of the model's tensors, and of its adapter's where it has one.

    The same tensors have the same hash however they are split into safetensors files.

    Raises:
        ValueError: there are no weights.
    """
    base = _tensors_hash(_snapshot(config), "model.safetensors", config.path)
    if config.adapter is None:
        return base
    adapter = _adapter_folder(config.adapter)
    return content_hash(base, _tensors_hash(adapter, "adapter_model.safetensors", config.adapter))


def _adapter_folder(adapter: str) -> Path:
    folder = Path(adapter).expanduser()
    if not (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"adapter '{adapter}' is no folder with an adapter_config.json; expected what "
            "training with LoRA saved"
        )
    return folder


def _snapshot(config: ModelConfig) -> Path:
    """The folder of the weights; of a hub name, the local snapshot."""
    folder = model_folder(config)
    if isinstance(folder, Path):
        return folder
    from huggingface_hub import snapshot_download

    with plain_errors(_failure(config, folder, "weights")):
        snapshot = snapshot_download(
            folder, revision=config.revision, allow_patterns=["*.safetensors", "*.json"]
        )
    return Path(snapshot)


def _tensors_hash(folder: Path, single: str, name: str) -> str:
    """The hash of the tensors in `single`, or in the shards that stand for it."""
    stem = single.removesuffix(".safetensors")
    files = [folder / single] if (folder / single).is_file() else []
    files = files or sorted(folder.glob(f"{stem}-*-of-*.safetensors"))
    if not files:
        raise ValueError(
            f"'{name}' has no {single}; expected weights in safetensors files (older formats run "
            "code when they are read: save the model again with transformers)"
        )
    tensors: dict[str, str] = {}
    for file in files:
        stat = file.stat()
        tensors.update(_tensor_digests(file, stat.st_size, stat.st_mtime_ns))
    return content_hash(tensors)


@lru_cache(maxsize=64)
def _tensor_digests(file: Path, size: int, mtime_ns: int) -> dict[str, str]:
    """SHA-256 of each tensor by name; size and time tell when a file has changed."""
    with open(file, "rb") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(stream.read(start - 8))
            header.pop("__metadata__", None)
            ends = {name: entry["data_offsets"][1] for name, entry in header.items()}
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"weights file '{file}' is damaged: no safetensors header") from error
        if start + max(ends.values(), default=0) != size:
            raise ValueError(f"weights file '{file}' is damaged: it is cut short, or too long")
        digests = {}
        for tensor, entry in header.items():
            position, end = entry["data_offsets"]
            stream.seek(start + position)
            digest = hashlib.sha256(f"{entry['dtype']}{entry['shape']}".encode())
            for offset in range(position, end, 1 << 24):
                digest.update(stream.read(min(1 << 24, end - offset)))
            digests[tensor] = digest.hexdigest()
    return digests


def _failure(config: ModelConfig, place: Path | str, what: str) -> str:
    if isinstance(place, Path):
        return f"model folder '{config.path}' has no {what} that can be loaded"
    return f"model '{config.path}' is no folder here, and the hub gives no {what} for it"


@contextlib.contextmanager
def plain_errors(failure: str) -> Iterator[None]:
    """Turn what libraries raise while they load into one sentence."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError) or "memory" in text:
            raise ValueError(
                f"{failure}: this machine has not enough memory for it; use a smaller model, or "
                "model.dtype=bfloat16"
            ) from error
        raise ValueError(f"{failure}: {text[:300] or type(error).__name__}") from error

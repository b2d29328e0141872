"""Tiny random models on disk: for the self-test, the tests and the notebooks, never for quality."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHATML = """\
{%- if tools -%}
{{ '<|im_start|>system\\nTools:' }}
{%- for tool in tools -%}
{{ '\\n' + (tool | tojson) }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] -%}
{{ '<tool_call>' + (call.function | tojson) + '</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}"""
"""A ChatML template that also writes tools and tool calls."""

_REWARD_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '[' + message.role + '] ' + (message.content or '') + '[end]' }}"
    "{%- endfor -%}"
)

_SENTENCES = (
    "system user assistant",
    "You are a helpful assistant.",
    "What is the capital of France? The capital of France is Paris.",
    "Describe the small red house, please. The house is small, red and old.",
    "Why is the sky blue? Because the air scatters blue light more than red light.",
    "How many days are there in a week? There are seven days in a week.",
    "Write one sentence about a cat. The cat sleeps on the warm chair all day.",
    "I do not know the answer to this question, but I can help you find it.",
    '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}',
)


def build_tiny_model(folder: Path, *, seed: int = 0, template: str = CHATML) -> Path:
    """The folder, with a random 2-layer Llama of about 100,000 weights and its tokenizer in it.

    The same seed gives the same weights. The pad token is not the end-of-sequence token.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    markers = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
    tokenizer = _tokenizer(_SENTENCES, markers, eos="<|im_end|>", pad="<|pad|>")
    tokenizer.chat_template = template
    config = LlamaConfig(**_sizes(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_tiny_reward_model(folder: Path, *, seed: int = 0) -> Path:
    """The folder, with a random sequence-classification Llama of one label in it.

    Its vocabulary and its template are not those of `build_tiny_model`.
    """
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    sentences = [sentence.upper() for sentence in _SENTENCES[1:]] + ["[user] [assistant] [system]"]
    tokenizer = _tokenizer(sentences, ("[end]", "[pad]"), eos="[end]", pad="[pad]")
    tokenizer.chat_template = _REWARD_TEMPLATE
    config = LlamaConfig(**_sizes(tokenizer), num_labels=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForSequenceClassification(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(
    sentences: Iterable[str], markers: tuple[str, ...], *, eos: str, pad: str
) -> "PreTrainedTokenizerFast":
    """A byte-level BPE trained on the sentences; every text survives encode and decode."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        min_frequency=1,
        special_tokens=list(markers),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(sentences, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=eos,
        pad_token=pad,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _sizes(tokenizer: "PreTrainedTokenizerFast") -> dict[str, int | bool | None]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }

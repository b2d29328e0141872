"""The chat template that fine-tuning gives a base model which has none."""

from typing import TYPE_CHECKING, NamedTuple

from curation.chat import ChatTemplate, TemplateError
from curation.models import load_chat, model_folder, pad_on_the_left, vocabulary_of
from schemas.configs import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Role names in plain text: a new token's embedding would be noise, and LoRA does not train it.
_ROLES = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{- '### Assistant:\\n' -}}
{%- generation -%}{{- (message.content or '') | trim + eos_token -}}{%- endgeneration -%}
{%- else -%}
{{- '### ' + (message.role | capitalize) + ':\\n' + (message.content or '') + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}"""

# A prompt and a text that goes on from it, each as its author wrote it.
_PLAIN = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{- (message.content or '') + eos_token -}}{%- endgeneration -%}
{%- else -%}
{{- message.content or '' -}}
{%- endif -%}
{%- endfor -%}"""


class SftChat(NamedTuple):
    chat: ChatTemplate
    given: str | None
    """The template that the model is given; None where it has one, or the config names one."""


def load_sft_chat(model: ModelConfig, *, plain: bool) -> SftChat:
    """The model's chat template, or the one it is given where it has none.

    plain: all rows are a text and the text that goes on from it, so the template given adds
    nothing but the end-of-sequence token; else it names the roles.

    Raises:
        ValueError: there is no such model, or its tokenizer has no end-of-sequence token.
        TemplateError: its template cannot be used.
    """
    try:
        return SftChat(load_chat(model), None)
    except TemplateError as error:
        if error.code != "NO_TEMPLATE":
            raise
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder(model), revision=model.revision)
    template = base_template(tokenizer, plain=plain)
    pad_on_the_left(tokenizer, vocabulary_of(model))
    chat = ChatTemplate(
        tokenizer, template=template, date=model.date, system_role=model.system_role
    )
    return SftChat(chat, template)


def base_template(tokenizer: "PreTrainedTokenizerBase", *, plain: bool) -> str:
    """A template made of text and of tokens that the tokenizer has already.

    It begins with the beginning-of-sequence token where the tokenizer puts that before plain text,
    as the model has always seen it.

    Raises:
        ValueError: the tokenizer has no end-of-sequence token.
    """
    if tokenizer.eos_token is None:
        raise ValueError(
            f"NO_EOS: the tokenizer of '{tokenizer.name_or_path}' has no end-of-sequence token, so "
            "the model could not learn to stop; give a template that ends its answers with a "
            "token of the vocabulary (model.chat_template)"
        )
    first = tokenizer("text")["input_ids"][:1]
    begins = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
    return ("{{- bos_token -}}" if begins else "") + (_PLAIN if plain else _ROLES)

"""A chat template and what it does, found by rendering probes, never by reading its text."""

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from curation.pinned import pinned_text
from curation.prefill import Opening, opening_of
from schemas.records import Message, Record, content_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "PROBETEXT"
_TOOL = {
    "type": "function",
    "function": {
        "name": _MARK,
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {}},
    },
}
_TOKENISED_AT_ONCE = 512


class TemplateError(ValueError):
    """A chat template that cannot be used, or a row that it does not render truly."""

    def __init__(self, code: str, message: str, *, positions: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        """Such as NO_TEMPLATE, SYSTEM_ROLE_REFUSED, ROLE_ORDER or TEMPLATE_NOT_PREFIX."""
        self.positions = positions
        """The messages it is about, counted from 0."""


class TemplateReport(Record):
    """What probing renders found out about a template."""

    hash: str
    supports_system: bool
    supports_tools: bool
    prefill: str
    """What the generation prompt opens the answer with, such as `<think>` and a line break."""
    writes_date: bool
    rewrites_history: bool
    """Whether reasoning in earlier answers is taken out of the rendered conversation."""
    bos: str | None
    """The token that a rendered conversation begins with, where it begins with one."""
    eos: str | None
    """The token that ends an answer."""
    pad: str | None
    """The token that fills rows; often the one that ends answers, so masks are explicit."""
    ends_with_eos: bool
    warnings: tuple[str, ...]


class Template:
    """A tokenizer under its chat template, with the date pinned and the system role decided.

    `tokenizer` is the one given under a template text that carries both decisions, so whoever
    renders with it (TRL does) renders what this class renders.

    Raises:
        TemplateError: there is no template (NO_TEMPLATE), or it cannot render one user turn.
        ValueError: the date is not a date.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        template: str | None,
        date: str,
        system_role: Literal["error", "merge"],
    ) -> None:
        own = template if template is not None else tokenizer.chat_template
        if not own:
            name = tokenizer.name_or_path
            raise TemplateError(
                "NO_TEMPLATE",
                f"NO_TEMPLATE: {f'model {name!r}' if name else 'the tokenizer'} has no chat "
                "template: a model that was never trained on one answers incoherently; give the "
                "template it was trained with (--chat-template FILE, or model.chat_template in the "
                "config), or fine-tune the model first",
            )
        self._own = own
        self._date = date
        self._merged_roles: tuple[str, ...] = ()
        self.tokenizer = copy.copy(tokenizer)
        self._pin()
        self.render([_user(_MARK)], "one user turn")
        self.refused_roles = tuple(
            role
            for role in ("system", "developer")
            if not self._keeps([{"role": role, "content": _MARK}, _user("hi")])
        )
        if system_role == "merge":
            self._merged_roles = self.refused_roles
            self._pin()

    @property
    def merges(self) -> bool:
        """Whether refused system text goes to the first user turn."""
        return bool(self._merged_roles)

    def _pin(self) -> None:
        def pin(text: str) -> str:
            return pinned_text(text, date=self._date, merged_roles=self._merged_roles)

        if isinstance(self._own, dict):
            self.tokenizer.chat_template = {name: pin(text) for name, text in self._own.items()}
        else:
            self.tokenizer.chat_template = pin(self._own)

    @cached_property
    def hash(self) -> str:
        """The hash of the text as rendered, date and system role in it, and special tokens."""
        return content_hash(self.tokenizer.chat_template, self.tokenizer.special_tokens_map)

    def report(self, *warnings: str) -> TemplateReport:
        """What the template does; warnings of the caller come after its own."""
        return TemplateReport(
            hash=self.hash,
            supports_system="system" not in self.refused_roles,
            supports_tools=self.supports_tools,
            prefill=self.opening.prefill,
            writes_date=self.writes_date,
            rewrites_history=self.rewrites_history,
            bos=self.tokenizer.bos_token if self.begins_with_bos else None,
            eos=self.terminator or self.tokenizer.eos_token,
            pad=self.tokenizer.pad_token,
            ends_with_eos=self.terminator is not None,
            warnings=(*self._warnings(), *warnings),
        )

    def _warnings(self) -> Iterator[str]:
        tokenizer = self.tokenizer
        adds_bos = tokenizer(_MARK)["input_ids"][:1] == [tokenizer.bos_token_id]
        if adds_bos and not self.begins_with_bos:
            yield (
                f"the tokenizer adds {tokenizer.bos_token} to plain text but the template writes "
                "none; conversations are tokenised without it, as TRL does"
            )
        if self.terminator not in (None, tokenizer.eos_token):
            yield (
                f"answers end with {self.terminator}, which is not the tokenizer's "
                f"end-of-sequence token {tokenizer.eos_token}; generation stops at either"
            )
        opened = self.try_render([_user("hi")], add_generation_prompt=True)
        if opened == self.try_render([_user("hi")]):
            yield "the template writes no generation prompt; the model has to open the answer"
        elif self.opening.inserted:
            yield (
                f"the template writes {self.opening.inserted!r} in front of an answer that has no "
                "such text; it is trained although it was not sampled"
            )
        if "system" in self.refused_roles and not self.merges:
            yield (
                "the template refuses or drops the system role; model.system_role=merge puts "
                "such text in front of the first user turn"
            )

    def render(
        self,
        messages: list[dict[str, Any]],
        subject: str,
        *,
        tools: Any = None,
        add_generation_prompt: bool = False,
    ) -> str:
        """The rendered text.

        Raises:
            TemplateError: the template fails on these messages (TEMPLATE_FAILED), or what it
                writes is not Unicode (NOT_UNICODE).
        """
        try:
            rendered = str(
                self.tokenizer.apply_chat_template(
                    messages,
                    # An empty list makes some templates write that there are tools.
                    tools=tools or None,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
            # A tokenizer refuses a lone surrogate, and with it the whole batch.
            rendered.encode()
        except UnicodeEncodeError as error:
            raise TemplateError(
                "NOT_UNICODE", f"{subject}: it holds a lone surrogate, which is not a text"
            ) from error
        # A template is a program from elsewhere: whatever it raises is about this row.
        except Exception as error:
            detail = " ".join(str(error).split()) or type(error).__name__
            raise TemplateError(
                "TEMPLATE_FAILED", f"{subject}: the chat template fails on it: {detail}"
            ) from error
        return rendered

    def try_render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """The rendered text, empty where the template fails."""
        try:
            return self.render(messages, "a probe", **options)
        except TemplateError:
            return ""

    def marked_spans(
        self, messages: list[dict[str, Any]], *, tools: Any = None
    ) -> list[tuple[int, int]]:
        """Where the rendered text is an answer's, by the template's own generation markers.

        Character positions, first and one past the last; none where the template has no markers.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        _, spans = render_jinja_template(
            conversations=[messages],
            tools=tools or None,
            chat_template=self.tokenizer.get_chat_template(tools=tools or None),
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        return [(start, end) for start, end in spans[0]]

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of rendered texts, and none that the texts do not write themselves.

        Templates write the special tokens, so the tokenizer adds none; TRL does the same.
        """
        ids: list[list[int]] = []
        for start in range(0, len(texts), _TOKENISED_AT_ONCE):
            encoded = self.tokenizer(
                list(texts[start : start + _TOKENISED_AT_ONCE]),
                add_special_tokens=False,
                return_attention_mask=False,
                verbose=False,
            )
            ids.extend(encoded["input_ids"])
        return ids

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """The tokenizer's special tokens, longest first."""
        tokenizer = self.tokenizer
        added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        return tuple(sorted(added | set(tokenizer.all_special_tokens), key=lambda m: (-len(m), m)))

    @cached_property
    def terminator(self) -> str | None:
        """The special token that the template writes after an answer; None: it writes none."""
        tail = self.try_render([_user("hi"), _assistant(_MARK)]).rpartition(_MARK)[2].lstrip()
        return next((marker for marker in self.markers if tail.startswith(marker)), None)

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end an answer: the tokenizer's, and the one the template writes."""
        tokens = {self.tokenizer.eos_token, self.terminator} - {None}
        return frozenset(self.tokenizer.convert_tokens_to_ids(token) for token in tokens)

    @cached_property
    def opening(self) -> Opening:
        """What the generation prompt and the template write in front of an answer."""

        def render(answer: Message | None, add_generation_prompt: bool) -> str:
            messages = [_user("hi"), *([] if answer is None else [answer.to_dict()])]
            return self.try_render(messages, add_generation_prompt=add_generation_prompt)

        return opening_of(render)

    @cached_property
    def begins_with_bos(self) -> bool:
        return self._probe_ids(_user("hi"))[:1] == [self.tokenizer.bos_token_id]

    @cached_property
    def bos_count(self) -> int:
        """How many beginning-of-sequence tokens a prompt of one turn has; more than one are one."""
        return min(1, self._probe_ids(_user("hi")).count(self.tokenizer.bos_token_id))

    @cached_property
    def bos_opens_turns(self) -> bool:
        """Whether later turns have a beginning-of-sequence token of their own."""
        bos = self.tokenizer.bos_token_id
        one = self._probe_ids(_user("hi")).count(bos)
        return self._probe_ids(_user("hi"), _assistant("ho"), _user("hi")).count(bos) > one

    @cached_property
    def written_ids(self) -> list[int]:
        """The tokens of a conversation of one turn."""
        return self._probe_ids(_user("hi"), _assistant("ho"))

    def _probe_ids(self, *messages: dict[str, Any]) -> list[int]:
        return self.tokenise([self.try_render(list(messages), add_generation_prompt=True)])[0]

    @cached_property
    def wants_alternation(self) -> bool:
        """Whether two user turns in a row are refused."""
        return not self.try_render([_user("hi"), _user("hi")])

    @cached_property
    def supports_tools(self) -> bool:
        return self._keeps([_user("hi")], tools=[_TOOL])

    @cached_property
    def rewrites_history(self) -> bool:
        """Whether reasoning is taken out of earlier answers."""
        said = _assistant(f"<think>\n{_MARK}\n</think>\n\nSeven.")
        return not self._keeps([_user("hi"), said, _user("sure?")])

    @cached_property
    def writes_date(self) -> bool:
        other = copy.copy(self)
        other.tokenizer = copy.copy(self.tokenizer)
        other._date = "2001-02-03" if self._date != "2001-02-03" else "2002-03-04"
        other._pin()
        system = {"role": "system", "content": "hi"}
        return any(
            self.try_render(messages, tools=tools) != other.try_render(messages, tools=tools)
            for messages in ([_user("hi")], [system, _user("hi")])
            for tools in (None, [_TOOL])
        )

    def _keeps(self, messages: list[dict[str, Any]], **options: Any) -> bool:
        return _MARK in self.try_render(messages, **options)


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}

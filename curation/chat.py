"""The chat template on the road: render prompts, and prove for each row what its tokens claim.

The proof is that the tokens of the prompt, as generation sees them, are a prefix of the tokens of
the whole conversation, as training sees them.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from curation.said import begins, first_difference, lost_text, says, texts
from curation.template import Template, TemplateError, TemplateReport
from schemas.records import Completion, Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "Encoded", "TemplateError", "TemplateReport"]

_PROBE = "PROBETEXT"
_CACHED_PROMPTS = 4096


class Encoded(NamedTuple):
    """The tokens of a conversation: what the model is given, and what it is to say."""

    prompt_ids: list[int]
    completion_ids: list[int]


class _Rendered(NamedTuple):
    text: str
    ids: list[int]


class ChatTemplate:
    """A tokenizer and its chat template, with the date pinned and the system role decided.

    Raises:
        TemplateError: there is no template (NO_TEMPLATE), or it cannot render one user turn.
        ValueError: the date is not a date.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        template: str | None = None,
        date: str = "2026-01-01",
        system_role: Literal["error", "merge"] = "error",
    ) -> None:
        self.template = Template(tokenizer, template=template, date=date, system_role=system_role)
        """What the template does, found by rendering probes."""
        self.tokenizer = self.template.tokenizer
        """The tokenizer under the template as rendered here: TRL renders the same with it."""
        self._prompts: dict[str, _Rendered | TemplateError] = {}

    @property
    def hash(self) -> str:
        """The hash of the template as rendered: text, date, system role, special tokens."""
        return self.template.hash

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end an answer: the tokenizer's, and the one the template writes."""
        return self.template.eos_ids

    def prompt_text(self, prompt: Prompt) -> str:
        """The rendered prompt with the generation prompt at its end.

        Raises:
            TemplateError: the template does not render this prompt.
        """
        return self._prompt(prompt).text

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The tokens of `prompt_text`: what generation starts from.

        Raises:
            TemplateError: the template does not render this prompt.
        """
        return list(self._prompt(prompt).ids)

    def completion(
        self,
        prompt: Prompt,
        text: str,
        *,
        token_ids: Sequence[int] | None = None,
        finish_reason: Literal["stop", "length"] | None = None,
    ) -> Completion:
        """The sampled text as a completion.

        What the generation prompt opened the answer with is part of the message, so that the whole
        conversation renders to `prompt_text`, then the text, then the template's own ending; only
        a text that the template cannot render so, such as half a thought, does not.
        """
        ids = None if token_ids is None else tuple(token_ids)
        forms = self.template.opening.forms(text)
        first = completion = Completion(
            messages=(next(forms),), token_ids=ids, finish_reason=finish_reason
        )
        if self.template.opening.plain:
            return completion
        sampled = self.prompt_text(prompt) + text
        while not self._whole(prompt, completion).startswith(sampled):
            form = next(forms, None)
            if form is None:
                return first
            completion = first.model_copy(update={"messages": (form,)})
        return completion

    def encode(self, prompt: Prompt, completion: Completion) -> Encoded:
        """The tokens of the whole rendered conversation, split where the answer begins.

        A completion cut off at the token limit is not asked for an end: the template writes one
        that the model did not.

        Raises:
            TemplateError: the prompt is not a prefix, in text or in tokens; the conversation has a
                second beginning-of-sequence token or no end; or the template does not render what
                the answer says.
        """
        (encoded,) = self.encode_batch([(prompt, completion)])
        if isinstance(encoded, TemplateError):
            raise encoded
        return encoded

    def encode_batch(
        self, items: Sequence[tuple[Prompt, Completion]]
    ) -> list[Encoded | TemplateError]:
        """`encode` for many: one result an item, an error in the place of the row that has one."""
        self._render_prompts([prompt for prompt, _ in items])
        results: list[Encoded | TemplateError | None] = []
        wholes: list[str] = []
        for prompt, completion in items:
            try:
                wholes.append(self._proven_whole(prompt, completion))
                results.append(None)
            except TemplateError as error:
                results.append(error.with_traceback(None))
        ids = iter(self.template.tokenise(wholes))
        return [
            self._split(prompt, completion, next(ids)) if result is None else result
            for (prompt, completion), result in zip(items, results, strict=True)
        ]

    def check_history(self, prompt: Prompt) -> None:
        """Prove that the rendered prompt says what its messages say, apart from white space.

        Raises:
            TemplateError: HISTORY_REWRITTEN; it names the turn and the text taken out.
        """
        lost = lost_text(self.template, prompt, self.prompt_text(prompt))
        if lost is not None:
            role = prompt.messages[lost.turn].role
            raise TemplateError(
                "HISTORY_REWRITTEN",
                f"prompt '{prompt.id}', turn {lost.turn} ({role}): the chat template takes "
                f"{_quoted(lost.text)} out of what was said; the model is not shown the stored "
                "text",
                positions=(lost.turn,),
            )

    def rendered_markers(self, text: str) -> list[str]:
        """The tokenizer's special tokens in the text: a sign that it is rendered already."""
        return [marker for marker in self.template.markers if marker in text]

    def check_plain(self, prompt: Prompt) -> None:
        """Prove that no message spells out a special token, which would be read as one.

        Raises:
            TemplateError: ALREADY_RENDERED.
        """
        for at, message in enumerate(prompt.messages):
            written = filter(None, (message.content, message.reasoning_content))
            markers = self.rendered_markers("\n".join(written))
            if markers:
                raise TemplateError(
                    "ALREADY_RENDERED",
                    f"prompt '{prompt.id}': message {at} holds the special token '{markers[0]}' as "
                    "text; expected text to which no chat template has been applied",
                    positions=(at,),
                )

    def prove(self) -> None:
        """Prove that a conversation of one turn survives the template.

        Raises:
            TemplateError: it does not, so no row would.
        """
        prompt = Prompt(messages=(Message(role="user", content=_PROBE),))
        self.encode(prompt, self.completion(prompt, self.template.opening.sample()))

    def report(self) -> TemplateReport:
        """What this template does, found by probing renders."""
        try:
            self.prove()
        except TemplateError as error:
            return self.template.report(f"no row will pass, because {error}")
        return self.template.report()

    def _prompt(self, prompt: Prompt) -> _Rendered:
        self._render_prompts([prompt])
        rendered = self._prompts[prompt.id]
        if isinstance(rendered, TemplateError):
            # Raised again and again, one error object would gather traceback on traceback.
            raise rendered.with_traceback(None)
        return rendered

    def _render_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Render and tokenise, in one batch, the prompts that are not kept from before."""
        missing = {item.id: item for item in prompts if item.id not in self._prompts}
        if missing and len(self._prompts) + len(missing) > _CACHED_PROMPTS:
            self._prompts.clear()
            missing = {item.id: item for item in prompts}
        rendered: dict[str, str] = {}
        for prompt_id, prompt in missing.items():
            try:
                rendered[prompt_id] = self._prompt_text(prompt)
            except TemplateError as error:
                self._prompts[prompt_id] = error
        tokenised = self.template.tokenise(list(rendered.values()))
        for (prompt_id, text), ids in zip(rendered.items(), tokenised, strict=True):
            self._prompts[prompt_id] = _Rendered(text, ids)

    def _prompt_text(self, prompt: Prompt) -> str:
        subject = f"prompt '{prompt.id}'"
        self.check_takes(prompt.messages, prompt.tools, subject)
        messages = prompt.message_dicts()
        return self.render(messages, subject, tools=prompt.tools, add_generation_prompt=True)

    def _whole(self, prompt: Prompt, completion: Completion) -> str:
        messages = prompt.message_dicts() + completion.message_dicts()
        return self.render(messages, _answer_to(prompt), tools=prompt.tools)

    def check_takes(self, messages: Sequence[Message], tools: Any, subject: str) -> None:
        """Return if the template takes these roles, and tools where there are any.

        Raises:
            TemplateError: SYSTEM_ROLE_REFUSED or TOOLS_IGNORED.
        """
        self._check_roles(messages, subject)
        if tools and not self.template.supports_tools:
            raise TemplateError(
                "TOOLS_IGNORED",
                f"{subject}: it has tools but the chat template writes none of them; use a "
                "template that does (model.chat_template), or a prompt without tools",
            )

    def render(self, messages: list[dict[str, Any]], subject: str, **options: Any) -> str:
        """The messages as the template renders them; options as `Template.render` takes them.

        Raises:
            TemplateError: it does not render them; ROLE_ORDER where their order is why.
        """
        try:
            return self.template.render(messages, subject, **options)
        except TemplateError as error:
            positions = _out_of_turn(messages)
            if not (positions and self.template.wants_alternation):
                raise
            named = " and ".join(f"{at} ({messages[at]['role']})" for at in positions)
            raise TemplateError(
                "ROLE_ORDER",
                f"{subject}: roles are out of turn at message {named}; this chat template wants "
                "user and assistant to alternate, user first",
                positions=positions,
            ) from error

    def _check_roles(self, messages: Sequence[Message], subject: str) -> None:
        """Refuse a system text that the template refuses or would drop."""
        template = self.template
        roles = [message.role for message in messages]
        first_user = roles.index("user") if "user" in roles else 0
        for index, role in enumerate(roles):
            if role not in template.refused_roles or (template.merges and index < first_user):
                continue
            remedy = (
                "there is no user turn after it to merge it into"
                if template.merges
                else "model.system_role=merge puts its text in front of the first user turn"
            )
            raise TemplateError(
                "SYSTEM_ROLE_REFUSED",
                f"{subject}: message {index} has the role '{role}', which the chat template "
                f"refuses or drops; {remedy}",
                positions=(index,),
            )

    def _proven_whole(self, prompt: Prompt, completion: Completion) -> str:
        """The rendered conversation, which begins with the prompt and says what the answer says."""
        before = self._prompt(prompt).text
        whole = self._whole(prompt, completion)
        subject = _answer_to(prompt)
        if not whole.startswith(before):
            at = first_difference(before, whole)
            raise TemplateError(
                "TEMPLATE_NOT_PREFIX",
                f"{subject}: the conversation does not begin with the rendered prompt; from "
                f"character {at} the prompt has {_quoted(before[at : at + 30])} and the "
                f"conversation {_quoted(whole[at : at + 30])}",
            )
        said = whole[len(before) - len(self.template.opening.prefill) :]
        self.check_said(completion.messages, said, subject)
        return whole

    def check_said(self, messages: Sequence[Message], said: str, subject: str) -> None:
        """Return if a rendered answer says what its messages say.

        Raises:
            TemplateError: ANSWER_REWRITTEN, or TOOLS_IGNORED where it lacks a call.
        """
        opening = self.template.opening
        for turn, _, text in texts(messages):
            # A template that finds no end of a thought may write an empty one in front of it.
            thinks = turn == 0 and opening.open_tag and text.lstrip().startswith(opening.open_tag)
            if not (begins(said, text) if thinks else says(said, text)):
                raise TemplateError(
                    "ANSWER_REWRITTEN",
                    f"{subject}: the chat template renders {_quoted(text)} as {_quoted(said)}; "
                    "what was ranked is not what would be trained",
                )
        for message in messages:
            for call in message.tool_calls or ():
                if call.function.name not in said:
                    raise TemplateError(
                        "TOOLS_IGNORED",
                        f"{subject}: the chat template does not write its call of "
                        f"'{call.function.name}'; use a template that writes tool calls",
                    )

    def _split(
        self, prompt: Prompt, completion: Completion, ids: list[int]
    ) -> Encoded | TemplateError:
        """The conversation's tokens as prompt and answer, or what is wrong with them."""
        prompt_ids = self._prompt(prompt).ids
        count = len(prompt_ids)
        decode, subject = self.tokenizer.decode, _answer_to(prompt)
        if ids[:count] != prompt_ids:
            at = first_difference(prompt_ids, ids)
            return TemplateError(
                "TOKENS_NOT_PREFIX",
                f"{subject}: its first characters merge with the end of the prompt; token {at} "
                f"is {_quoted(decode(prompt_ids[at : at + 1]))} in the prompt and "
                f"{_quoted(decode(ids[at : at + 1]))} in the conversation",
            )
        doubled = self.double_bos(ids, subject)
        if doubled is not None:
            return doubled
        answer = ids[count:]
        if completion.finish_reason != "length" and self.end_of(answer) is None:
            return TemplateError(
                "NO_EOS",
                f"{subject}: the chat template ends it with {_quoted(decode(answer[-3:]))} and no "
                "end-of-sequence token, so a model trained on it never stops; write "
                "{{ eos_token }} after the assistant's content",
            )
        return Encoded(list(prompt_ids), answer)

    def double_bos(self, ids: list[int], subject: str) -> TemplateError | None:
        """What is wrong with tokens that begin a sequence twice; None where they do not."""
        second = self._second_bos(ids)
        if second is None:
            return None
        return TemplateError(
            "DOUBLE_BOS",
            f"{subject}: the beginning-of-sequence token {self.tokenizer.bos_token} comes "
            f"again as token {second}, where the chat template writes none",
        )

    def _second_bos(self, ids: list[int]) -> int | None:
        """Where a beginning-of-sequence token stands that the template has no place for."""
        template, bos = self.template, self.tokenizer.bos_token_id
        if bos is None:
            return None
        if template.bos_opens_turns:
            return 1 if ids[:2] == [bos, bos] else None
        places = [at for at, token in enumerate(ids) if token == bos]
        return places[template.bos_count] if len(places) > template.bos_count else None

    def end_of(self, answer: Sequence[int]) -> int | None:
        """How many tokens the answer has up to its end token; None where it ends with none.

        Behind the end token there may be white space of the template.
        """
        for count in range(len(answer), 0, -1):
            if answer[count - 1] in self.eos_ids:
                return count
            if self.tokenizer.decode([answer[count - 1]]).strip():
                return None
        return None


def _answer_to(prompt: Prompt) -> str:
    return f"an answer to prompt '{prompt.id}'"


def _out_of_turn(messages: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    """The first two neighbours of one role, or a first message that is the assistant's."""
    turns = [(at, turn["role"]) for at, turn in enumerate(messages) if turn["role"] != "system"]
    if turns and turns[0][1] == "assistant":
        return (turns[0][0],)
    for (before, role), (after, next_role) in itertools.pairwise(turns):
        if role == next_role and role in ("user", "assistant"):
            return before, after
    return ()


def _quoted(text: str) -> str:
    """The text as a reader can see it, cut where it is long."""
    return repr(text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}")

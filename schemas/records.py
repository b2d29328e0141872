"""What travels the road: prompts, candidates, judgements, rankings, preference pairs.

Every record is frozen and refuses unknown fields. Ids are hashes of content without wall-clock:
the same thing has the same id on every machine, so a re-run or a re-push is idempotent, and a
record whose stored id does not match its content is refused when it is read back.

An optional field that is None and a field that is absent are the same thing. Nulls that an author
wrote himself live only inside `Json` fields, which are stored as JSON text.
"""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    model_validator,
)


class JsonText:
    """Marks a field that holds free JSON; Arrow stores it as text, so no key is added or lost."""


Json = Annotated[Any, JsonText()]


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, ASCII.

    It is only hashed, so lone surrogates and NaN are legal here: what is wrong with a row can be
    said by whoever checks it.
    """
    return _CANONICAL.encode(value)


def content_hash(*parts: Any) -> str:
    """20 hex digits (80 bits) of the SHA-256 of the parts' canonical JSON."""
    return hashlib.sha256(canonical_json(parts).encode("ascii")).hexdigest()[:20]


def normalise(text: str) -> str:
    """The text as a reader compares it.

    NFKC, case folded, zero-width characters left out, runs of white space as one space.
    """
    # Folding case can take a character apart again, so its result is composed once more.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return re.sub(r"\s+", " ", _ZERO_WIDTH.sub("", folded)).strip()


_ZERO_WIDTH = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")


def without_thought(text: str) -> str:
    """The text behind the thought that opens it: `<think>...</think>`, `[THINK]...[/THINK]`.

    A prompt may have opened the thought, so its end suffices. Of one without an end nothing is
    left.
    """
    return _THOUGHT.sub("", text, count=1)


_THOUGHT = re.compile(
    r"\A.*?(?:</think(?:ing)?>|\[/THINK\])|\A\s*(?:<think(?:ing)?>|\[THINK\]).*\Z", re.DOTALL
)


class Record(BaseModel):
    """A frozen record; unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IdentifiedRecord(Record):
    """A record whose `id` is the hash of its content, filled in when it is built."""

    id_prefix: ClassVar[str]
    id: str = ""

    def content(self) -> list[Any]:
        """The JSON values that make this record what it is."""
        raise TypeError(f"{type(self).__name__} does not say what its id is made of")

    @model_validator(mode="wrap")
    @classmethod
    def _fill_ids(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # An instance inside another record was checked when it was built.
        if isinstance(data, cls):
            return data
        record = handler(data)
        record._fill_id()
        return record

    def _fill_id(self) -> None:
        expected = f"{self.id_prefix}-{content_hash(*self.content())}"
        if self.id and self.id != expected:
            raise ValueError(
                f"{type(self).__name__} '{self.id}' holds content whose id is '{expected}'; "
                "it was changed after it was written"
            )
        object.__setattr__(self, "id", expected)


class FunctionCall(Record):
    name: str
    arguments: Json = None
    """An object, or the raw text that a model produced where it is not valid JSON."""


class ToolCall(Record):
    function: FunctionCall
    type: Literal["function"] = "function"
    id: str | None = None


Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(Record):
    """One turn of a conversation. A null key means the same as an absent one."""

    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _empty_call_list_is_none(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("tool_calls") == []:
            return {**data, "tool_calls": None}
        return data

    def to_dict(self) -> dict[str, Any]:
        """The dict that chat templates take: role and content always, other keys where set."""
        keys: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name is not None:
            keys["name"] = self.name
        if self.tool_calls is not None:
            keys["tool_calls"] = [_tool_call_dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            keys["tool_call_id"] = self.tool_call_id
        if self.reasoning_content is not None:
            keys["reasoning_content"] = self.reasoning_content
        return keys


def _tool_call_dict(call: ToolCall) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "type": call.type,
        "function": {"name": call.function.name, "arguments": call.function.arguments},
    }
    return keys if call.id is None else {"id": call.id, **keys}


class Instruction(Record):
    """A verifiable instruction in a prompt: the name of a check, and its arguments."""

    name: str
    kwargs: Json = Field(default_factory=dict)


class Prompt(IdentifiedRecord):
    """What the model is asked, and what is known about a right answer.

    The id covers messages and tools alone: two prompts are the same prompt if and only if the
    whole conversation is the same.
    """

    id_prefix: ClassVar[str] = "p"

    messages: tuple[Message, ...] = Field(min_length=1)
    tools: Json = None
    """A list of tool schemas, as chat templates take them."""
    answer: Json = None
    """The reference answer, read by rewards that compare with it."""
    instructions: tuple[Instruction, ...] = ()
    tags: tuple[str, ...] = ()
    source: str | None = None
    licence: str | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.messages[-1].role == "assistant":
            raise ValueError(
                "a prompt ends with an assistant message; it must end with what the model "
                "answers to (user, tool or system)"
            )
        return self

    def content(self) -> list[Any]:
        return [self.message_dicts(), self.tools]

    def message_dicts(self) -> list[dict[str, Any]]:
        return [message.to_dict() for message in self.messages]

    @cached_property
    def group(self) -> str:
        """The hash of the normalised prompt: near-equal prompts share it, and so share a split."""
        turns = [
            {**turn, "content": normalise(turn["content"] or "")} for turn in self.message_dicts()
        ]
        return content_hash(turns, self.tools)


class Completion(Record):
    """An answer: the assistant's messages, and the tokens they were sampled as."""

    messages: tuple[Message, ...] = Field(min_length=1)
    token_ids: tuple[int, ...] | None = None
    """The ids sampled, end-of-sequence included; None where no model sampled them."""
    finish_reason: Literal["stop", "length"] | None = None
    """`length`: cut off at the token limit, so the answer is not whole."""

    @classmethod
    def from_text(cls, text: str, **fields: Any) -> Self:
        return cls(messages=(Message(role="assistant", content=text),), **fields)

    @property
    def text(self) -> str:
        """What a reader sees: the contents of the messages, a line break between them."""
        return "\n".join(message.content or "" for message in self.messages)

    @property
    def said(self) -> str:
        """The text without a thought in front of it: what answers the prompt."""
        return without_thought(self.text)

    def message_dicts(self) -> list[dict[str, Any]]:
        return [message.to_dict() for message in self.messages]


class Origin(Record):
    """Where a candidate comes from: enough to make it again."""

    generator: str
    """`transformers`, `edit:<name>`, `import:<source>`."""
    model: str | None = None
    """The name or path the user gave."""
    weights: str | None = None
    """The hash of the model's weights, adapter included."""
    template: str | None = None
    """The hash of the chat template as rendered."""
    sampling: Json = None
    """Every sampling setting that was in force, neutral ones included."""
    seed: int | None = None
    index: int = 0
    """Which of the prompt's samples this is, from 0."""
    parent: str | None = None
    """The id of the candidate that this one is an edit of."""


class Candidate(IdentifiedRecord):
    """A completion of a prompt, with two identities.

    `text_id` names prompt and content: votes, deduplication and matching go by it. `id` names the
    sample: the same text from another model or seed is another candidate.
    """

    id_prefix: ClassVar[str] = "c"

    prompt_id: str
    completion: Completion
    origin: Origin
    count: int = Field(default=1, ge=1)
    """How many of the prompt's samples had this very content."""
    text_id: str = ""

    def _fill_id(self) -> None:
        super()._fill_id()
        expected = text_id(self.prompt_id, self.completion)
        if self.text_id and self.text_id != expected:
            raise ValueError(
                f"candidate '{self.id}' has text_id '{self.text_id}' but its content gives "
                f"'{expected}'; it was changed after it was written"
            )
        object.__setattr__(self, "text_id", expected)

    def content(self) -> list[Any]:
        completion = self.completion
        return [
            self.prompt_id,
            completion.message_dicts(),
            completion.token_ids,
            completion.finish_reason,
            self.origin.model_dump(exclude={"model"}),
        ]


def text_id(prompt_id: str, completion: Completion) -> str:
    """The identity of a text as an answer to a prompt, whoever wrote it."""
    return f"t-{content_hash(prompt_id, completion.message_dicts())}"


class Annotator(Record):
    kind: Literal["human", "reward_model", "judge", "rule"]
    name: str


class Judgement(IdentifiedRecord):
    """One annotator's answer about candidates of one prompt; a changed mind is a new judgement."""

    id_prefix: ClassVar[str] = "j"

    prompt_id: str
    annotator: Annotator
    question: str = "overall"
    """The question or criterion; criteria are never mixed."""
    candidates: tuple[str, ...] = Field(min_length=1)
    """`text_id`s in the order shown."""
    ranks: tuple[int, ...] | None = None
    """One a candidate, 1 is best, ties share a rank."""
    scores: tuple[float | None, ...] | None = None
    """One a candidate, higher is better; None: the annotator abstains."""
    strength: float | None = Field(default=None, ge=0, le=1)
    both_bad: bool = False
    mode: Literal["blind", "assisted"] = "blind"
    status: Literal["submitted", "draft", "discarded"] = "submitted"
    revision: int = Field(default=0, ge=0)
    """Counts one annotator's changes of mind about one question on the same candidates."""
    rationale: str | None = None
    external_id: str | None = None
    """The id the answer has in the labelling server."""
    task_id: str | None = None
    """The `LabelTask` that it answers."""
    purpose: Literal["label", "gold", "adjudication"] = "label"
    """What the task was put for; a gold question's answer measures the annotator."""
    created_at: datetime | None = None
    """When it was given; neither this nor the task is part of the id."""

    @model_validator(mode="after")
    def _answers_fit(self) -> Self:
        shown = len(self.candidates)
        where = f"judgement of prompt '{self.prompt_id}' by '{self.annotator.name}'"
        if len(set(self.candidates)) != shown:
            raise ValueError(f"{where}: a candidate is shown twice")
        if self.ranks is None and self.scores is None:
            if not self.both_bad and self.status == "submitted":
                raise ValueError(f"{where}: neither ranks, scores nor 'both bad' is given")
            return self
        for name, values in (("rank", self.ranks), ("score", self.scores)):
            if values is not None and len(values) != shown:
                raise ValueError(
                    f"{where}: {shown} candidates but {len(values)} {name}s; "
                    f"expected one {name} a candidate"
                )
        if self.ranks is not None and (min(self.ranks) != 1):
            raise ValueError(f"{where}: ranks start at {min(self.ranks)}; the best has rank 1")
        if self.scores is not None and not all(s is None or math.isfinite(s) for s in self.scores):
            raise ValueError(f"{where}: a score is not a finite number; None abstains")
        return self

    def content(self) -> list[Any]:
        fields = self.model_dump(exclude={"id", "created_at", "task_id", "purpose"})
        return [fields[name] for name in sorted(fields)]


class Ranking(IdentifiedRecord):
    """What an aggregator concludes about the candidates of one prompt."""

    id_prefix: ClassVar[str] = "r"

    prompt_id: str
    candidates: tuple[str, ...]
    """`text_id`s of the candidates that could be ranked."""
    ranks: tuple[int, ...]
    """Dense: 1 is best, equal candidates share a rank, no rank is left out."""
    scores: tuple[float, ...] | None = None
    probabilities: tuple[tuple[float | None, ...], ...] | None = None
    """`[i][j]`: posterior that candidate i is truly better than j; None where unknown."""
    method: str
    judgement_ids: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        where, count = f"ranking of prompt '{self.prompt_id}'", len(self.candidates)
        if len(self.ranks) != count:
            raise ValueError(
                f"{where}: {count} candidates but {len(self.ranks)} ranks; "
                "expected one rank a candidate"
            )
        if set(self.ranks) != set(range(1, len(set(self.ranks)) + 1)):
            raise ValueError(f"{where}: ranks {list(self.ranks)} are not dense from 1")
        if self.scores is not None and len(self.scores) != count:
            raise ValueError(f"{where}: {count} candidates but {len(self.scores)} scores")
        if self.probabilities is not None and (
            len(self.probabilities) != count or any(len(row) != count for row in self.probabilities)
        ):
            raise ValueError(f"{where}: probabilities must be a {count} by {count} matrix")
        return self

    def content(self) -> list[Any]:
        fields = self.model_dump(exclude={"id"})
        return [fields[name] for name in sorted(fields)]


class PairProposal(IdentifiedRecord):
    """A pair as a strategy proposes it, before the gate has looked at it: nothing is promised."""

    id_prefix: ClassVar[str] = "pair"

    prompt: Prompt
    chosen: Candidate
    rejected: Candidate
    p_chosen: float | None = None
    """Posterior that chosen is truly better; None for uncalibrated machine scores."""
    weight: float = 1.0
    margin: float | None = None
    """Score of chosen minus score of rejected, in the ranking's own units."""
    strategy: str
    judgement_ids: tuple[str, ...] = ()

    def content(self) -> list[Any]:
        return [
            self.prompt.id,
            self.chosen.id,
            self.rejected.id,
            self.p_chosen,
            self.weight,
            self.margin,
            self.strategy,
            list(self.judgement_ids),
        ]


class PreferencePair(PairProposal):
    """A pair that may be trained on: equal texts, different prompts or a tie cannot be built."""

    split: Literal["train", "test"] = "train"

    @model_validator(mode="after")
    def _is_a_preference(self) -> Self:
        prompt_ids = {self.prompt.id, self.chosen.prompt_id, self.rejected.prompt_id}
        if len(prompt_ids) != 1:
            raise ValueError(f"pair '{self.id}': its sides answer different prompts")
        if self.chosen.text_id == self.rejected.text_id:
            raise ValueError(f"pair '{self.id}': chosen and rejected are the same text")
        if self.p_chosen is not None and not 0.5 < self.p_chosen <= 1:
            raise ValueError(
                f"pair '{self.id}': p_chosen is {self.p_chosen}; a preference needs more than 0.5 "
                "and at most 1"
            )
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin > 0):
            raise ValueError(f"pair '{self.id}': margin is {self.margin}; a tie is no preference")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"pair '{self.id}': weight is {self.weight}; expected more than 0")
        return self

"""Candidates from a model on a server: one request a sample, every setting sent that can be."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

from curation.endpoints import NOT_ANSWERED, ChatAnswer, ChatRequest, Endpoint, Usage
from curation.formats.json_values import check_storable, opened_json
from curation.kept_answers import KeptAnswers
from schemas.configs import SamplingConfig
from schemas.records import (
    Candidate,
    Completion,
    FunctionCall,
    Message,
    Origin,
    Prompt,
    Record,
    ToolCall,
    content_hash,
)

_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Settings outside OpenAI's protocol: a server that lacks one refuses it, so a neutral one is not
sent."""


class Unanswered(Record):
    """A sample that the server would not give, or not to the end."""

    prompt_id: str
    index: int
    code: str
    """CONTENT_FILTER, INTERRUPTED, or CONTEXT_LENGTH: prompt and answer do not fit the model."""
    message: str


class EndpointGenerator:
    """Samples from a model on a server; a `Generator`.

    The server renders its own template. It is asked once for each sample, as many servers take no
    `n`, and with a seed of the sample's own, so that samples differ and a server that honours
    seeds repeats them. Its answers have no token ids.
    """

    def __init__(
        self, endpoint: Endpoint, sampling: SamplingConfig, *, batch_size: int, seed: int
    ) -> None:
        self._endpoint = endpoint
        self._sampling = SamplingConfig(
            **sampling.model_dump(include=set(SamplingConfig.model_fields))
        )
        self._batch_size = batch_size
        self._seed = seed
        self._unanswered: list[Unanswered] = []

    @property
    def usage(self) -> Usage:
        """What the endpoint has been asked so far."""
        return self._endpoint.usage

    def keep_answers(self, file: Path) -> KeptAnswers:
        """From now on, answers are kept in the file, and what it holds is not asked again."""
        return self._endpoint.keep_answers(file)

    def close(self) -> None:
        self._endpoint.close()

    def take_unanswered(self) -> list[Unanswered]:
        """The samples that were asked for since the last call and are no candidates."""
        taken, self._unanswered = self._unanswered, []
        return taken

    def plan(self, prompts: Iterable[Prompt], *, n: int) -> list[list[Prompt]]:
        """The prompts in their order, as many together as fill a batch with their samples."""
        kept = list(prompts)
        size = max(1, self._batch_size // n)
        return [kept[start : start + size] for start in range(0, len(kept), size)]

    def generate(
        self, prompts: Iterable[Prompt], *, n: int
    ) -> Iterator[tuple[Prompt, list[Candidate]]]:
        """Each prompt with its distinct candidates; equal contents count once, in `count`.

        Raises:
            BudgetSpent: the endpoint's budget is spent.
            ValueError: the server refused the key, the model or a setting.
            OSError: the server is not there or fails.
        """
        asked = list(prompts)
        greedy = self._sampling.temperature == 0
        samples = 1 if greedy else n
        requests = (self._request(prompt, index) for prompt in asked for index in range(samples))
        answers = self._endpoint.chat(requests)
        for prompt in asked:
            given = [next(answers) for _ in range(samples)]
            yield prompt, self._distinct(prompt, given * n if greedy else given)

    def _request(self, prompt: Prompt, index: int) -> ChatRequest:
        sampling = self._sampling.model_dump()
        settings: dict[str, Any] = {
            "temperature": sampling["temperature"],
            "top_p": sampling["top_p"],
            "max_tokens": sampling["max_new_tokens"],
            # 31 bits: what every server takes.
            "seed": int(content_hash(self._seed, prompt.id, index)[:15], 16) % 2**31,
            **{key: sampling[key] for key, value in _NEUTRAL.items() if sampling[key] != value},
        }
        if prompt.tools:
            settings["tools"] = [_tool(tool) for tool in prompt.tools]
        return ChatRequest(_sent(prompt.message_dicts()), settings)

    def _distinct(self, prompt: Prompt, answers: Sequence[ChatAnswer]) -> list[Candidate]:
        counts: dict[str, int] = {}
        first: dict[str, tuple[int, Completion]] = {}
        for index, answer in enumerate(answers):
            if answer.finish_reason in NOT_ANSWERED:
                self._unanswered.append(
                    Unanswered(
                        prompt_id=prompt.id,
                        index=index,
                        code=str(answer.finish_reason).upper(),
                        message=answer.detail or answer.text,
                    )
                )
                continue
            completion = _completion(answer)
            content = content_hash(completion.message_dicts())
            counts[content] = counts.get(content, 0) + 1
            first.setdefault(content, (index, completion))
        return [
            Candidate(
                prompt_id=prompt.id,
                completion=completion,
                origin=self._origin(index),
                count=counts[content],
            )
            for content, (index, completion) in first.items()
        ]

    def _origin(self, index: int) -> Origin:
        """The server's address and model name stand in for the hash of weights that it hides."""
        endpoint = self._endpoint
        served = {
            "model": endpoint.config.model,
            "address": endpoint.address,
            "extra": endpoint.config.extra,
        }
        return Origin(
            generator="endpoint",
            model=endpoint.config.model,
            sampling={**self._sampling.model_dump(), "endpoint": served},
            seed=self._seed,
            index=index,
        )


def _completion(answer: ChatAnswer) -> Completion:
    calls = [_call(call) for call in answer.message.get("tool_calls") or () if "function" in call]
    thought = answer.message.get("reasoning_content") or answer.message.get("reasoning")
    ended: dict[str | None, Literal["stop", "length"]] = {
        "stop": "stop",
        "tool_calls": "stop",
        "length": "length",
    }
    return Completion(
        messages=(
            Message(
                role="assistant",
                content=answer.text or (None if calls else ""),
                tool_calls=tuple(calls) or None,
                reasoning_content=thought if isinstance(thought, str) else None,
            ),
        ),
        finish_reason=ended.get(answer.finish_reason),
    )


def _call(call: Mapping[str, Any]) -> ToolCall:
    """The call without the id that the server drew for it: it would make equal answers differ."""
    arguments = call["function"].get("arguments")
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            opened = opened_json(arguments)
            check_storable(opened)
            arguments = opened
    return ToolCall(function=FunctionCall(name=call["function"]["name"], arguments=arguments))


def _sent(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages as the protocol has them: a call's arguments are text, it has an id, and the
    tool's message names that id; one without takes the calls in their order."""
    sent: list[dict[str, Any]] = []
    numbers = count()
    waiting: list[dict[str, Any]] = []
    for message in messages:
        if "tool_calls" in message:
            waiting = [_sent_call(call, next(numbers)) for call in message["tool_calls"]]
            message = {**message, "tool_calls": list(waiting)}
        elif message["role"] == "tool":
            answered = _answered(message, waiting)
            if answered is not None:
                waiting.remove(answered)
                message = {"tool_call_id": answered["id"], **message}
        sent.append(message)
    return sent


def _sent_call(call: dict[str, Any], number: int) -> dict[str, Any]:
    arguments = call["function"]["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return {"id": f"call_{number}", **call, "function": {**call["function"], "arguments": text}}


def _answered(message: Mapping[str, Any], waiting: Sequence[dict[str, Any]]) -> Any:
    """The first of the waiting calls that the tool's message may answer; None: it answers none."""
    for call in waiting:
        named = message.get("name") in (None, call["function"]["name"])
        if message.get("tool_call_id", call["id"]) == call["id"] and named:
            return call
    return None


def _tool(tool: Any) -> Any:
    wrapped = isinstance(tool, Mapping) and "function" in tool
    return tool if wrapped else {"type": "function", "function": tool}

"""Chat completions from a server that speaks OpenAI's protocol: vLLM, llama.cpp, a hosted model.

The `openai` client retries with exponential back-off, obeys Retry-After and times out; `aiolimiter`
spaces the requests. Here come what neither has: answers in order from a bounded window of requests,
a budget of tokens, and errors of one sentence without secrets.
"""

import asyncio
import importlib.util
import os
import re
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from curation.formats.json_values import whole_characters
from curation.kept_answers import KeptAnswers
from curation.loop_thread import LoopThread
from schemas.config_files import parse_config
from schemas.configs import EndpointConfig
from schemas.records import Record, content_hash

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPERATIONAL = frozenset(
    {"key_variable", "concurrency", "requests_a_minute", "retries", "timeout", "max_tokens"}
)
"""The keys of an endpoint that change how it is asked and not what it answers."""

NOT_ANSWERED = ("content_filter", "context_length", "interrupted")
"""Finish reasons of requests that the server would not answer, or not to the end."""

_FINISHES = {
    "max_tokens": "length",
    "error": "interrupted",
    "abort": "interrupted",
    "insufficient_system_resource": "interrupted",
}
"""Other servers' words (Anthropic's and Google's, OpenRouter's, vLLM's, DeepSeek's)."""

_WINDOW = 4
"""Requests taken up at a time are this often the concurrency: a slow one holds up few others."""
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|too many tokens|maximum model length|prompt is too long"
    r"|input token count|tokens \+ .max_new_tokens",
    re.IGNORECASE,
)
_UNWANTED = re.compile(
    r"content.?(filter|policy|exists risk)|data_inspection_failed|invalid_prompt|flagged as",
    re.IGNORECASE,
)
"""How servers say that they will not answer this, whatever the settings."""
_SHOWN = 300


class BudgetSpent(ValueError):  # noqa: N818
    """The endpoint's budget of tokens is spent; what was answered before was given out."""


class ChatRequest(NamedTuple):
    messages: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    """Further keys of the body: temperature, max_tokens, seed, tools."""


class ChatAnswer(NamedTuple):
    """What the server answered, as it is: empty, cut off and refused answers too."""

    message: Mapping[str, Any]
    """The assistant's message with the keys that the server gave; empty where there is none."""
    finish_reason: str | None
    """The server's word: stop, length, tool_calls, content_filter; `context_length` where the
    request itself was too long for the model, `interrupted` where the server broke off."""
    detail: str | None = None
    """What a server that would not answer said about it."""

    @property
    def text(self) -> str:
        """The content, or the refusal that some servers give in its place."""
        return str(self.message.get("content") or self.message.get("refusal") or "")


class Usage(Record):
    """What an endpoint was asked for, tokens as the server counts them."""

    requests: int = 0
    """As sent, those that were retried included."""
    answers: int = 0
    refused: int = 0
    """Requests that the server would not answer, for what they hold."""
    kept: int = 0
    """Answers that a process before this one got and kept; it spent the tokens."""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def retries(self) -> int:
        return self.requests - self.answers - self.refused

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{key: value + getattr(other, key) for key, value in self})

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(**{key: value - getattr(other, key) for key, value in self})


class Endpoint:
    """A model on a server, asked with the concurrency, pace, retries and budget of its config.

    Raises:
        ValueError: the config does not fit, or the packages that ask servers are not installed.
    """

    def __init__(self, config: EndpointConfig | Mapping[str, Any]) -> None:
        for package in ("openai", "aiolimiter"):
            if importlib.util.find_spec(package) is None:
                raise ValueError(
                    f"asking a server needs the package '{package}', which is not installed; "
                    "pip install openai aiolimiter"
                )
        if not isinstance(config, EndpointConfig):
            config = parse_config(config, as_=EndpointConfig, where="endpoint")
        self.config = config
        if "@" in urlsplit(config.base_url).netloc or "?" in config.base_url:
            raise ValueError(
                "endpoint: base_url holds a user or a query, which may be secret; the key is read "
                "from the environment variable that key_variable names"
            )
        if urlsplit(config.base_url).scheme not in ("http", "https"):
            raise ValueError(
                "endpoint: base_url does not begin with http:// or https://; expected an address "
                "such as http://localhost:8000/v1"
            )
        self.usage = Usage()
        """What has been asked so far."""
        self._kept: KeptAnswers | None = None
        for key in ("messages", "model", "n", "stream"):
            if config.extra.get(key) not in (None, {"n": 1, "stream": False}.get(key)):
                raise ValueError(
                    f"endpoint: extra holds '{key}', which is not for extra to say: each request "
                    "asks the config's model for one whole answer"
                )
        # A file of variables with Windows line ends leaves a carriage return behind the key.
        self._key = os.environ.get(config.key_variable, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError(
                f"endpoint: the key in {config.key_variable} holds a character that no key has; "
                "expected printable ASCII"
            )
        self._opened: _Opened | None = None

    @property
    def address(self) -> str:
        return self.config.base_url.rstrip("/")

    def keep_answers(self, file: Path) -> KeptAnswers:
        """From now on, answers are kept in the file, and what it holds is not asked again."""
        self._kept = KeptAnswers(file)
        return self._kept

    def chat(self, requests: Iterable[ChatRequest]) -> Iterator[ChatAnswer]:
        """The answers in the order of the requests, which are taken up as answers are given out.

        Works in a notebook too, where an event loop is already running.

        Raises:
            BudgetSpent: the budget was spent before all were asked; all answers come first. As
                many requests as are in flight may go beyond it.
            ValueError: the server refused the key, the model or a setting.
            OSError: the server is not there, fails, or takes too long, retries included.
        """
        opened = self._open()
        waiting: deque[Future[ChatAnswer]] = deque()
        try:
            for request in requests:
                waiting.append(opened.thread.submit(self._answer(opened, request)))
                if len(waiting) >= _WINDOW * self.config.concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Let go of connections; asked again, it opens new ones."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.thread.submit(opened.client.close()).result()
            opened.thread.stop()

    def _open(self) -> "_Opened":
        if self._opened is None:
            thread = LoopThread()
            weakref.finalize(self, thread.stop)
            slots = asyncio.Semaphore(self.config.concurrency)
            self._opened = _Opened(thread, self._new_client(), slots)
        return self._opened

    def _new_client(self) -> "AsyncOpenAI":
        import aiolimiter
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        pace = self.config.requests_a_minute
        # One at a time, evenly: a bucket of a whole minute would let two minutes' worth through
        # in the first.
        limiter = None if pace is None else aiolimiter.AsyncLimiter(1, 60 / pace)

        async def before_each(_: Any) -> None:
            """Retries count too: for the pace, and in usage."""
            if limiter is not None:
                await limiter.acquire()
            self.usage += Usage(requests=1)

        return AsyncOpenAI(
            base_url=self.config.base_url,
            # Without a key the client would look for one of its own accord.
            api_key=self._key or "none",
            max_retries=self.config.retries,
            timeout=self.config.timeout,
            http_client=DefaultAsyncHttpxClient(
                timeout=self.config.timeout, event_hooks={"request": [before_each]}
            ),
        )

    async def _answer(self, opened: "_Opened", request: ChatRequest) -> ChatAnswer:
        given = {**request.settings, **self.config.extra}
        body = {key: value for key, value in given.items() if value is not None}
        asked = [self.address, self.config.model, request.messages, body]
        key = content_hash(asked)
        kept = self._kept.get(key) if self._kept else None
        if kept is not None:
            self.usage += Usage(kept=1)
            return ChatAnswer(**kept)
        answer = await self._sent(opened, request.messages, body)
        if self._kept and answer.finish_reason != "interrupted":
            self._kept.put(key, answer._asdict())
        return answer

    async def _sent(
        self, opened: "_Opened", messages: Sequence[Mapping[str, Any]], body: Mapping[str, Any]
    ) -> ChatAnswer:
        import openai

        async with opened.slots:
            self._check_budget()
            try:
                answer: Any = await opened.client.chat.completions.create(
                    model=self.config.model,
                    messages=[dict(message) for message in messages],  # type: ignore[misc]
                    extra_body=body,
                )
            except openai.APIStatusError as error:
                return self._not_answered(error)
            except openai.APITimeoutError:
                raise TimeoutError(
                    f"{self._where}: no answer within {self.config.timeout:g} seconds "
                    f"({self._retries}); raise timeout, or lower concurrency"
                ) from None
            except openai.APIConnectionError as error:
                why = self._shown(str(error.__cause__ or error))
                raise ConnectionError(
                    f"{self._where} cannot be reached ({why}; {self._retries}); is the server "
                    "started, and base_url right?"
                ) from None
            except openai.OpenAIError as error:
                raise self._no_chat(str(error)) from None
        return self._counted(answer)

    def _counted(self, answer: Any) -> ChatAnswer:
        choices = getattr(answer, "choices", None)
        if not choices:
            raise self._no_chat(str(getattr(answer, "error", None) or answer))
        usage = getattr(answer, "usage", None)
        if usage is None and self.config.max_tokens is not None:
            raise ValueError(
                f"{self._where} does not say how many tokens it used, so that max_tokens cannot be "
                "kept; leave max_tokens out"
            )
        self.usage += Usage(
            answers=1,
            prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
            completion_tokens=getattr(usage, "completion_tokens", None) or 0,
        )
        message = choices[0].message
        given = {} if message is None else message.model_dump(exclude_none=True, warnings=False)
        return ChatAnswer(_message(given), _finish(choices[0].finish_reason))

    def _not_answered(self, error: Any) -> ChatAnswer:
        """A refusal that concerns this request alone; any other raises."""
        status, code = error.status_code, str(error.code or "")
        detail = self._shown(_said(error))
        if status in (400, 413, 422):
            reason = None
            if _UNWANTED.search(f"{code} {detail}"):
                reason = "content_filter"
            elif _TOO_LONG.search(f"{code} {detail}"):
                reason = "context_length"
            if reason is not None:
                self.usage += Usage(refused=1)
                return ChatAnswer({}, reason, detail)
        variable = self.config.key_variable
        # What a server says about a refused key may quote the key.
        if status in (401, 403):
            key = f"the key in {variable}" if self._key else f"a request without a key ({variable})"
            raise ValueError(f"{self._where} refuses {key}, HTTP {status}") from None
        if status == 404:
            raise ValueError(
                f"{self._where} does not know this model or address, HTTP 404 ({detail}); expected "
                "a model that it lists at /models, and a base_url up to and with /v1"
            ) from None
        if status == 429:
            raise ConnectionError(
                f"{self._where} refuses requests for their rate or number, HTTP 429 ({detail}; "
                f"{self._retries}); lower concurrency or requests_a_minute"
            ) from None
        if status >= 500 or status in (408, 409):
            raise ConnectionError(
                f"{self._where} fails, HTTP {status} ({detail}; {self._retries})"
            ) from None
        raise ValueError(f"{self._where} refuses the request, HTTP {status} ({detail})") from None

    def _no_chat(self, said: str) -> OSError:
        return ConnectionError(
            f"{self._where} gave no chat completion ({self._shown(said)}); expected a base_url up "
            "to and with /v1"
        )

    def _check_budget(self) -> None:
        budget, usage = self.config.max_tokens, self.usage
        if budget is not None and usage.tokens >= budget:
            raise BudgetSpent(
                f"{self._where}: the budget of {budget} tokens is spent ({usage.tokens} in "
                f"{usage.answers} answers); what is answered is kept: repeat the command to go on "
                "from there with as much again, or raise max_tokens"
            )

    @property
    def _where(self) -> str:
        return f"endpoint '{self.address}' (model '{self.config.model}')"

    @property
    def _retries(self) -> str:
        return f"retries: {self.config.retries}"

    def _shown(self, text: str) -> str:
        """A server's words in one line, without the key."""
        text = " ".join(text.split())
        if self._key:
            text = text.replace(self._key, "***")
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _message(given: dict[str, Any]) -> dict[str, Any]:
    """The message in whole characters, its content a text.

    Mistral's server gives a list of parts where the model thinks.
    """
    message: dict[str, Any] = whole_characters(given)
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    thought = _joined(parts, "thinking")
    return {
        **({"reasoning_content": thought} if thought else {}),
        **message,
        "content": _joined(parts, "text"),
    }


def _joined(parts: Any, kind: str) -> str:
    """The text of those parts that are of the kind."""
    if isinstance(parts, str):
        return parts
    of_kind = (part for part in parts or () if isinstance(part, Mapping))
    return "".join(_joined(part.get(kind), "text") for part in of_kind if part.get("type") == kind)


def _finish(reason: str | None) -> str | None:
    """The finish reason in OpenAI's word, without what a server appends behind a colon."""
    word = str(reason or "").partition(":")[0]
    return _FINISHES.get(word.lower(), word) or None


def _said(error: Any) -> str:
    """The server's own message, wherever in the body it stands."""
    body = error.body
    if isinstance(body, Mapping):
        for key in ("message", "detail", "error"):
            if isinstance(body.get(key), str):
                return str(body[key])
    return str(body or error.message)


class _Opened(NamedTuple):
    thread: LoopThread
    client: "AsyncOpenAI"
    slots: asyncio.Semaphore

import asyncio
import importlib.util
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from curation.endpoints import BudgetSpent, ChatAnswer, ChatRequest, Endpoint
from tests.serving import Reply, ScriptedServer, asked_text, said

Start = Callable[[Callable[[int, dict[str, Any]], Reply]], ScriptedServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server that replies as it is told."""
    servers: list[ScriptedServer] = []

    def started(reply: Callable[[int, dict[str, Any]], Reply]) -> ScriptedServer:
        servers.append(ScriptedServer(reply))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


def endpoint(server: ScriptedServer, **keys: Any) -> Endpoint:
    return Endpoint({"base_url": server.url, "model": "m", "retries": 0, **keys})


def ask(*texts: str) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": text}], {"max_tokens": 5}) for text in texts]


def answers(asked: Endpoint, *texts: str) -> list[str]:
    return [answer.text for answer in asked.chat(ask(*texts))]


def test_answers_come_in_the_order_of_requests_and_no_more_than_allowed_are_in_flight(
    start: Start,
) -> None:
    server = start(lambda _, body: Reply(said(asked_text(body)), after=float(asked_text(body))))
    texts = ["0.2", "0.0", "0.1", "0.0", "0.15", "0.0", "0.1", "0.0"]
    assert answers(endpoint(server, concurrency=3), *texts) == texts
    assert server.at_once == 3


def test_requests_are_taken_up_only_as_answers_are_given_out(start: Start) -> None:
    server = start(lambda _, body: Reply(said(asked_text(body))))
    taken: list[int] = []

    def many() -> Iterator[ChatRequest]:
        for number in range(1000):
            taken.append(number)
            yield ask(str(number))[0]

    asked = endpoint(server, concurrency=2)
    given = asked.chat(many())
    assert next(given).text == "0"
    given.close()  # type: ignore[attr-defined]
    assert len(taken) <= 10
    assert answers(asked, "again") == ["again"]


def test_it_works_where_an_event_loop_is_running_already(start: Start) -> None:
    server = start(lambda _, body: Reply(said(asked_text(body))))

    async def cell() -> list[str]:
        return answers(endpoint(server), "a", "b")

    assert asyncio.run(cell()) == ["a", "b"]


def test_a_refused_rate_and_a_failing_server_are_tried_again_and_counted(start: Start) -> None:
    soon = {"retry-after-ms": "10"}
    script = [Reply({"error": {"message": "slow down"}}, 429, soon), Reply("oops", 500, soon)]
    server = start(lambda number, _: script[number] if number < 2 else Reply(said("done")))
    asked = endpoint(server, retries=2)
    assert answers(asked, "x") == ["done"]
    usage = asked.usage
    assert (usage.requests, usage.answers, usage.retries, usage.tokens) == (3, 1, 2, 10)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply({"error": {"message": "slow down"}}, 429), ConnectionError, "429 (slow down"),
        (Reply({"detail": "out of memory"}, 503), ConnectionError, "HTTP 503 (out of memory"),
        (Reply({"error": {"message": "no m here"}}, 404), ValueError, "model or address"),
        (Reply({"detail": "Unexpected fields"}, 422), ValueError, "HTTP 422 (Unexpected fields)"),
        (Reply("<html>hello</html>"), ConnectionError, "gave no chat completion"),
        (Reply({"error": {"message": "upstream"}}), ConnectionError, "upstream"),
        (Reply(said("late"), after=1.0), TimeoutError, "no answer within 0.2 seconds"),
    ],
)
def test_what_a_server_cannot_do_is_one_sentence(
    start: Start, reply: Reply, kind: type[Exception], words: str
) -> None:
    server = start(lambda *_: reply)
    with pytest.raises(kind) as caught:
        answers(endpoint(server, timeout=0.2), "x")
    assert words in str(caught.value)
    assert f"endpoint '{server.url}' (model 'm')" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    nowhere = Endpoint({"base_url": "http://127.0.0.1:9/v1", "model": "m", "retries": 0})
    with pytest.raises(ConnectionError, match=r"cannot be reached .* is the server started"):
        answers(nowhere, "x")


def test_the_key_comes_from_the_environment_and_stands_in_no_error(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    quoted = {"error": {"message": "bad key sk-very-secret"}}
    server = start(lambda number, _: Reply(quoted, 401 if number == 0 else 500))
    asked = endpoint(server, key_variable="MY_KEY")
    with pytest.raises(ValueError, match="refuses the key in MY_KEY, HTTP 401") as refused:
        answers(asked, "x")
    with pytest.raises(ConnectionError) as failed:
        answers(asked, "x")
    assert server.seen[0].headers["authorization"] == "Bearer sk-very-secret"
    for error in (refused.value, failed.value):
        assert "secret" not in str(error)
        assert error.__suppress_context__
    assert "secret" not in repr(asked.config)


def test_a_missing_key_is_named_and_another_services_key_is_not_sent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    monkeypatch.delenv("MY_KEY", raising=False)
    server = start(lambda *_: Reply({"error": {"message": "who are you"}}, 401))
    with pytest.raises(ValueError, match=r"refuses a request without a key \(MY_KEY\)"):
        answers(endpoint(server, key_variable="MY_KEY"), "x")
    assert "another" not in server.seen[0].headers["authorization"]


def test_a_url_that_may_hold_a_secret_is_refused_unshown() -> None:
    for url in ("http://me:hidden@127.0.0.1/v1", "http://127.0.0.1/v1?key=hidden"):
        with pytest.raises(ValueError, match="a user or a query") as caught:
            Endpoint({"base_url": url, "model": "m"})
        assert "hidden" not in str(caught.value)


def test_an_address_without_its_scheme_is_refused_before_it_is_asked() -> None:
    with pytest.raises(ValueError, match="base_url does not begin with http:// or https://"):
        Endpoint({"base_url": "localhost:8000/v1", "model": "m"})


def test_once_the_budget_is_spent_nothing_more_is_sent_and_answers_are_given_out(
    start: Start,
) -> None:
    server = start(lambda _, body: Reply(said(asked_text(body), tokens=10)))
    asked = endpoint(server, max_tokens=25, concurrency=1)
    given: list[str] = []
    with pytest.raises(BudgetSpent, match=r"budget of 25 tokens is spent \(30 in 3 answers\)"):
        given.extend(answer.text for answer in _noting(asked.chat(ask(*"abcdef")), given))
    assert given == ["a", "b", "c"]
    assert len(server.seen) == 3
    with pytest.raises(BudgetSpent):
        answers(asked, "g")
    assert len(server.seen) == 3


def _noting(replies: Iterator[ChatAnswer], into: list[str]) -> Iterator[ChatAnswer]:
    for reply in replies:
        into.append(reply.text)
    return iter(())


def test_a_budget_needs_a_server_that_counts_tokens(start: Start) -> None:
    server = start(lambda *_: Reply({**said("x"), "usage": None}))
    with pytest.raises(ValueError, match="does not say how many tokens"):
        answers(endpoint(server, max_tokens=25), "x")
    assert answers(endpoint(server), "x") == ["x"]


def test_answers_that_are_filtered_empty_cut_off_or_too_long_lose_no_other(start: Start) -> None:
    script = {
        "filtered": Reply({"error": {"code": "content_filter", "message": "not this"}}, 400),
        "half": Reply(said("some", "content_filter")),
        "long": Reply({"detail": "This model's maximum context length is 8 tokens"}, 400),
        "empty": Reply(said(None)),
        "cut": Reply(said("and so", "length")),
        "fine": Reply(said("yes")),
    }
    server = start(lambda _, body: script[asked_text(body)])
    asked = endpoint(server)
    given = list(asked.chat(ask(*script)))
    assert (asked.usage.answers, asked.usage.refused, asked.usage.retries) == (4, 2, 0)
    assert [(item.text, item.finish_reason, item.detail) for item in given] == [
        ("", "content_filter", "not this"),
        ("some", "content_filter", None),
        ("", "context_length", "This model's maximum context length is 8 tokens"),
        ("", "stop", None),
        ("and so", "length", None),
        ("yes", "stop", None),
    ]


def test_requests_are_spaced_evenly(start: Start) -> None:
    server = start(lambda *_: Reply(said("x")))
    answers(endpoint(server, requests_a_minute=600), *"abcd")
    at = [seen.at for seen in server.seen]
    assert at[3] - at[0] >= 0.28
    assert min(after - before for before, after in pairwise(at)) > 0.05


def test_extra_keys_are_sent_and_one_that_is_null_is_left_out(start: Start) -> None:
    server = start(lambda *_: Reply(said("x")))
    extra = {"max_tokens": None, "max_completion_tokens": 7, "top_k": 3}
    answers(endpoint(server, extra=extra), "x")
    body = server.seen[0].body
    assert (body["max_completion_tokens"], body["top_k"]) == (7, 3)
    assert "max_tokens" not in body


def test_kept_answers_are_not_asked_again_and_a_half_line_is(start: Start, tmp_path: Path) -> None:
    server = start(lambda _, body: Reply(said(asked_text(body))))
    file = tmp_path / "stage" / "answers.jsonl"
    first = endpoint(server)
    first.keep_answers(file)
    assert answers(first, "a", "b") == ["a", "b"]
    file.write_text(file.read_text()[:-20])
    again = endpoint(server)
    again.keep_answers(file)
    assert answers(again, "a", "b", "c") == ["a", "b", "c"]
    assert (again.usage.kept, again.usage.answers) == (1, 2)
    third = endpoint(server)
    third.keep_answers(file)
    assert answers(third, "c", "b", "a") == ["c", "b", "a"]
    assert third.usage.requests == 0
    other = endpoint(server, extra={"top_p": 0.5})
    other.keep_answers(file)
    assert answers(other, "a") == ["a"]
    assert other.usage.answers == 1


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openai" else real(name)
    )
    with pytest.raises(ValueError, match="'openai', which is not installed; pip install openai"):
        Endpoint({"base_url": "http://127.0.0.1/v1", "model": "m"})


def test_a_config_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"endpoint: .*concurrency"):
        Endpoint({"base_url": "http://127.0.0.1/v1", "model": "m", "concurrency": 0})
    with pytest.raises(
        ValueError, match="endpoint: unknown key 'base_ur'; did you mean 'base_url'"
    ):
        Endpoint({"base_ur": "http://127.0.0.1/v1", "model": "m"})


def test_a_closed_endpoint_opens_again(start: Start) -> None:
    server = start(lambda _, body: Reply(said(asked_text(body))))
    asked = endpoint(server)
    assert answers(asked, "a") == ["a"]
    asked.close()
    asked.close()
    assert answers(asked, "b") == ["b"]


@pytest.mark.parametrize("ending", ["\n", "\r", " "])
def test_white_space_behind_a_key_is_no_part_of_it(
    start: Start, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret" + ending)
    server = start(lambda *_: Reply(said("x")))
    assert answers(endpoint(server, key_variable="MY_KEY"), "x") == ["x"]
    assert server.seen[0].headers["authorization"] == "Bearer sk-very-secret"


@pytest.mark.parametrize("key", ["sk-secret\nmore", "sk-s\u00e9cret"])
def test_a_key_that_no_header_can_hold_is_refused_unshown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ValueError, match="the key in MY_KEY holds a character") as refused:
        Endpoint({"base_url": "http://127.0.0.1/v1", "model": "m", "key_variable": "MY_KEY"})
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("extra", "key"), [({"n": 2}, "n"), ({"stream": True}, "stream"), ({"model": "other"}, "model")]
)
def test_extra_keys_that_would_ask_for_another_answer_are_refused(
    start: Start, extra: dict[str, Any], key: str
) -> None:
    server = start(lambda *_: Reply(said("x")))
    with pytest.raises(ValueError, match=f"extra holds '{key}'"):
        endpoint(server, extra=extra)
    assert answers(endpoint(server, extra={"n": 1, "stream": False}), "x") == ["x"]


def test_half_a_character_of_a_server_becomes_the_replacement_character(start: Start) -> None:
    server = start(lambda *_: Reply(said("a glass \ud83c", name="\udf78")))
    ((message, *_),) = endpoint(server).chat(ask("x"))
    assert (message["content"], message["name"]) == ("a glass \ufffd", "\ufffd")


@pytest.mark.filterwarnings("error")
def test_content_in_parts_is_the_text_of_its_parts(start: Start) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Which city?"}]}
    parts = [thought, {"type": "text", "text": "Par"}, {"type": "text", "text": "is"}]
    server = start(lambda *_: Reply(said(parts)))  # type: ignore[arg-type]
    (answer,) = endpoint(server).chat(ask("x"))
    assert (answer.text, answer.message["reasoning_content"]) == ("Paris", "Which city?")


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter: RECITATION", "content_filter"),
        ("error", "interrupted"),
        ("abort", "interrupted"),
        ("insufficient_system_resource", "interrupted"),
        ("stop", "stop"),
        ("tool_calls", "tool_calls"),
    ],
)
def test_other_servers_finish_reasons_are_read_too(start: Start, told: str, known: str) -> None:
    (answer,) = endpoint(start(lambda *_: Reply(said("half", told)))).chat(ask("x"))
    assert answer.finish_reason == known


def test_an_answer_that_was_broken_off_is_asked_for_again(start: Start, tmp_path: Path) -> None:
    server = start(lambda number, _: Reply(said("half" if number == 0 else "whole", "error")))
    for expected in ("half", "whole"):
        asked = endpoint(server)
        asked.keep_answers(tmp_path / "answers.jsonl")
        assert answers(asked, "x") == [expected]


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("The decoder prompt (length 9) is longer than the maximum model length of 8.", None, ""),
        ("`inputs` tokens + `max_new_tokens` must be <= 8. Given: 9 `inputs` tokens", None, ""),
        ("prompt is too long: 9 tokens > 8 maximum", None, ""),
        ("The input token count (9) exceeds the maximum number of tokens allowed (8).", None, ""),
        ("Your prompt was flagged as potentially violating our policy.", "invalid_prompt", "f"),
        ("Input data may contain inappropriate content.", "data_inspection_failed", "f"),
        ("Content Exists Risk", "invalid_request_error", "f"),
        ("Rejected by our safety system.", "content_policy_violation", "f"),
    ],
)
def test_a_request_that_the_server_will_not_answer_loses_no_other(
    start: Start, message: str, code: str | None, reason: str
) -> None:
    refusal = Reply({"error": {"message": message, "code": code}}, 400)
    server = start(lambda _, body: refusal if asked_text(body) == "bad" else Reply(said("yes")))
    given = list(endpoint(server).chat(ask("bad", "good")))
    expected = "content_filter" if reason else "context_length"
    assert [item.finish_reason for item in given] == [expected, "stop"]

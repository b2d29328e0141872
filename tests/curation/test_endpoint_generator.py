from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.endpoint_generator import EndpointGenerator
from curation.endpoints import Endpoint
from schemas.arrow import from_table, to_table
from schemas.configs import SamplingConfig
from schemas.interfaces import Generator
from schemas.records import Candidate, Message, Prompt
from tests.serving import Reply, ScriptedServer, asked_text, said, serving

Start = Callable[[Callable[[int, dict[str, Any]], Reply]], ScriptedServer]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[ScriptedServer] = []

    def started(reply: Callable[[int, dict[str, Any]], Reply]) -> ScriptedServer:
        servers.append(ScriptedServer(reply))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


def prompt(text: str, **fields: Any) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),), **fields)


def generator(
    url: str, sampling: SamplingConfig | None = None, *, seed: int = 0, **keys: Any
) -> EndpointGenerator:
    endpoint = Endpoint({"base_url": url, "model": "m", "retries": 0, "concurrency": 1, **keys})
    return EndpointGenerator(endpoint, sampling or SamplingConfig(), batch_size=8, seed=seed)


def test_a_real_server_answers_each_sample_and_the_origin_says_where_it_comes_from(
    tiny_model_folder: Path,
) -> None:
    prompts = [prompt("Why is the sky blue?"), prompt("Describe the house.")]
    with serving(tiny_model_folder) as config:
        endpoint = Endpoint(config)
        asked = EndpointGenerator(endpoint, SamplingConfig(max_new_tokens=8), batch_size=8, seed=3)
        assert isinstance(asked, Generator)
        given = list(asked.generate(prompts, n=3))
        again = list(asked.generate(prompts, n=3))
        with pytest.raises(ValueError, match="HTTP 400"):
            list(generator(endpoint.address).generate(prompts, n=1))
    assert [one.id for one, _ in given] == [one.id for one in prompts]
    candidates = [candidate for _, answers in given for candidate in answers]
    assert sum(candidate.count for candidate in candidates) == 6
    # A random model hardly says the same twice; one request at a time, its seeds are kept.
    assert len(candidates) >= 5
    assert [one.text_id for _, answers in again for one in answers] == [
        one.text_id for one in candidates
    ]
    assert endpoint.usage.answers == 12
    assert 12 < endpoint.usage.completion_tokens <= 96
    assert {candidate.completion.finish_reason for candidate in candidates} <= {"stop", "length"}
    assert all(candidate.completion.token_ids is None for candidate in candidates)
    origin = candidates[0].origin
    assert (origin.generator, origin.model) == ("endpoint", str(tiny_model_folder))
    assert (origin.weights, origin.template, origin.seed) == (None, None, 3)
    assert origin.sampling["endpoint"]["address"] == config["base_url"]
    assert origin.sampling["max_new_tokens"] == 8
    assert list(from_table(to_table(candidates, Candidate), Candidate)) == candidates


def test_settings_are_sent_and_neutral_ones_outside_the_protocol_are_not(start: Start) -> None:
    server = start(lambda *_: Reply(said("x")))
    sampling = SamplingConfig(temperature=0.7, top_p=0.9, min_p=0.1, max_new_tokens=12)
    list(generator(server.url, sampling).generate([prompt("Hi")], n=1))
    body = server.seen[0].body
    assert {key: body[key] for key in body if key not in ("messages", "model", "seed")} == {
        "temperature": 0.7,
        "top_p": 0.9,
        "min_p": 0.1,
        "max_tokens": 12,
    }
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert "n" not in body


def test_each_sample_has_a_seed_of_its_own_which_the_run_and_nothing_else_decides(
    start: Start,
) -> None:
    server = start(lambda *_: Reply(said("x")))

    def seeds(*texts: str, seed: int = 0) -> list[int]:
        before = len(server.seen)
        prompts = [prompt(text) for text in texts]
        list(generator(server.url, seed=seed).generate(prompts, n=2))
        return [seen.body["seed"] for seen in server.seen[before:]]

    both = seeds("a", "b")
    assert len(set(both)) == 4
    assert seeds("b", "a") == both[2:] + both[:2]
    assert not set(seeds("a", "b", seed=1)) & set(both)
    assert all(0 <= seed < 2**31 for seed in both)


def test_equal_samples_are_one_candidate_with_a_count(start: Start) -> None:
    texts = ["same", "other", "same", "same"]
    server = start(lambda number, _: Reply(said(texts[number])))
    ((_, candidates),) = generator(server.url).generate([prompt("Hi")], n=4)
    assert [(one.completion.text, one.count, one.origin.index) for one in candidates] == [
        ("same", 3, 0),
        ("other", 1, 1),
    ]


def test_greedy_decoding_is_asked_for_once(start: Start) -> None:
    server = start(lambda *_: Reply(said("best")))
    sampling = SamplingConfig(temperature=0)
    ((_, candidates),) = generator(server.url, sampling).generate([prompt("Hi")], n=4)
    assert [one.count for one in candidates] == [4]
    assert len(server.seen) == 1


def test_what_is_filtered_or_too_long_is_no_candidate_and_says_so(start: Start) -> None:
    script = [
        Reply(said("fine")),
        Reply({"error": {"code": "content_filter", "message": "no"}}, 400),
        Reply({"error": {"message": "exceeds the available context size"}}, 400),
        Reply(said("")),
    ]
    server = start(lambda number, _: script[number])
    asked = generator(server.url)
    ((one, candidates),) = asked.generate([prompt("Hi")], n=4)
    assert [candidate.completion.text for candidate in candidates] == ["fine", ""]
    unanswered = asked.take_unanswered()
    assert [(item.prompt_id, item.index, item.code) for item in unanswered] == [
        (one.id, 1, "CONTENT_FILTER"),
        (one.id, 2, "CONTEXT_LENGTH"),
    ]
    assert asked.take_unanswered() == []


def test_finish_reasons_are_the_servers_own(start: Start) -> None:
    reasons = ["stop", "length", "something"]
    server = start(lambda number, _: Reply(said(f"{number}", reasons[number])))
    ((_, candidates),) = generator(server.url).generate([prompt("Hi")], n=3)
    assert [one.completion.finish_reason for one in candidates] == ["stop", "length", None]


def test_tools_and_earlier_calls_are_sent_as_the_protocol_has_them(start: Start) -> None:
    weather = {"name": "get_weather", "parameters": {"type": "object"}}
    call = {
        "id": "drawn-by-chance",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
    }
    server = start(
        lambda number, _: Reply(
            said(None, "tool_calls", tool_calls=[{**call, "id": f"id {number}"}])
        )
    )
    earlier = {"function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
    asked = Prompt.model_validate(
        {
            "messages": [
                {"role": "user", "content": "Rome?"},
                {"role": "assistant", "tool_calls": [earlier]},
                {"role": "tool", "content": "sunny", "tool_call_id": "call_0"},
            ],
            "tools": [weather],
        }
    )
    ((_, candidates),) = generator(server.url).generate([asked], n=2)
    body = server.seen[0].body
    assert body["tools"] == [{"type": "function", "function": weather}]
    sent = body["messages"][1]["tool_calls"][0]
    assert (sent["id"], sent["function"]["arguments"]) == ("call_0", '{"city": "Rome"}')
    (candidate,) = candidates
    assert candidate.count == 2
    assert candidate.completion.finish_reason == "stop"
    (made,) = candidate.completion.messages[0].tool_calls or ()
    assert (made.id, made.function.arguments) == (None, {"city": "Oslo"})


def test_prompts_are_planned_in_their_order_as_many_as_fill_a_batch() -> None:
    prompts = [prompt(str(number)) for number in range(5)]
    asked = generator("http://127.0.0.1/v1")
    assert asked.plan(prompts, n=4) == [prompts[:2], prompts[2:4], prompts[4:]]
    assert asked.plan(prompts, n=100) == [[one] for one in prompts]


def test_prompts_and_answers_keep_to_each_other(start: Start) -> None:
    server = start(lambda _, body: Reply(said(f"to {asked_text(body)}"), after=0.01))
    prompts = [prompt(str(number)) for number in range(20)]
    for one, candidates in generator(server.url, concurrency=5).generate(prompts, n=2):
        assert [item.completion.text for item in candidates] == [f"to {one.messages[0].content}"]
        assert candidates[0].prompt_id == one.id


def test_an_answer_that_the_server_broke_off_is_no_candidate(start: Start) -> None:
    finishes = ["abort", "stop"]
    server = start(
        lambda number, _: Reply(said("half" if number == 0 else "all", finishes[number]))
    )
    asked = generator(server.url)
    ((_, candidates),) = asked.generate([prompt("Hi")], n=2)
    assert [one.completion.text for one in candidates] == ["all"]
    assert [item.code for item in asked.take_unanswered()] == ["INTERRUPTED"]


def test_half_a_character_is_stored_as_the_replacement_character(start: Start) -> None:
    server = start(lambda *_: Reply(said("a glass \ud83c")))
    ((_, candidates),) = generator(server.url).generate([prompt("Hi")], n=1)
    (stored,) = from_table(to_table(candidates, Candidate), Candidate)
    assert stored.completion.text == "a glass \ufffd"


@pytest.mark.parametrize("arguments", ['{"x": NaN}', "[" * 5000, '{"x": 1'])
def test_arguments_that_are_no_json_stay_as_the_model_wrote_them(
    start: Start, arguments: str
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    server = start(lambda *_: Reply(said(None, "tool_calls", tool_calls=[call])))
    ((_, candidates),) = generator(server.url).generate([prompt("Hi")], n=1)
    (stored,) = from_table(to_table(candidates, Candidate), Candidate)
    (made,) = stored.completion.messages[0].tool_calls or ()
    assert made.function.arguments == arguments


def test_each_tool_result_names_the_call_that_it_answers(start: Start) -> None:
    def calls(*names: str) -> dict[str, Any]:
        made = [{"function": {"name": name, "arguments": {}}} for name in names]
        return {"role": "assistant", "tool_calls": made}

    server = start(lambda *_: Reply(said("Fine.")))
    asked = Prompt.model_validate(
        {
            "messages": [
                {"role": "user", "content": "Oslo?"},
                calls("weather", "time"),
                {"role": "tool", "name": "time", "content": "noon"},
                {"role": "tool", "content": "4C"},
                calls("weather"),
                {"role": "tool", "content": "5C"},
            ]
        }
    )
    list(generator(server.url).generate([asked], n=1))
    sent = server.seen[0].body["messages"]
    ids = [call["id"] for turn in (sent[1], sent[4]) for call in turn["tool_calls"]]
    assert ids == ["call_0", "call_1", "call_2"]
    assert [sent[at]["tool_call_id"] for at in (2, 3, 5)] == ["call_1", "call_0", "call_2"]

"""Records survive Parquet and JSONL exactly."""

import io
import json
from datetime import UTC

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.arrow import arrow_schema, from_table, to_jsonl, to_table
from schemas.records import (
    Annotator,
    Candidate,
    Completion,
    FunctionCall,
    Instruction,
    Judgement,
    Message,
    Origin,
    PairProposal,
    Prompt,
    Ranking,
    ToolCall,
)

text = st.text(st.characters(codec="utf-8"), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
tool_calls = st.lists(
    st.builds(
        ToolCall,
        function=st.builds(FunctionCall, name=text, arguments=json_values),
        id=st.none() | text,
    ),
    min_size=1,
    max_size=2,
).map(tuple)
messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "tool"]),
    content=st.none() | text,
    name=st.none() | text,
    tool_calls=st.none() | tool_calls,
    tool_call_id=st.none() | text,
    reasoning_content=st.none() | text,
)
prompts = st.builds(
    Prompt,
    messages=st.lists(messages, min_size=1, max_size=3).map(tuple),
    tools=st.none() | st.lists(st.dictionaries(text, json_values, max_size=2), max_size=2),
    answer=json_values,
    instructions=st.lists(
        st.builds(Instruction, name=text, kwargs=st.dictionaries(text, json_values, max_size=2)),
        max_size=2,
    ).map(tuple),
    tags=st.lists(text, max_size=2).map(tuple),
    source=st.none() | text,
)


def through_parquet(records, record):
    sink = io.BytesIO()
    pq.write_table(to_table(records, record), sink)
    return from_table(pq.read_table(io.BytesIO(sink.getvalue())), record)


@given(st.lists(prompts, max_size=4))
def test_prompts_survive_parquet_exactly(items):
    assert through_parquet(items, Prompt) == items


@given(st.lists(prompts, max_size=4))
def test_prompts_survive_jsonl_exactly(items):
    lines = to_jsonl(items).split("\n")[:-1]
    assert [Prompt.model_validate_json(line) for line in lines] == items


@given(
    scores=st.lists(
        st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4
    ),
    when=st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_judgements_survive_parquet_exactly(scores, when):
    judgement = Judgement(
        prompt_id="p",
        annotator=Annotator(kind="human", name="ann"),
        candidates=tuple(f"t-{i}" for i in range(len(scores))),
        scores=tuple(scores),
        created_at=when,
    )
    assert through_parquet([judgement], Judgement) == [judgement]


def test_keys_of_one_tool_call_do_not_appear_in_another():
    def calls(name, arguments):
        call = ToolCall(function=FunctionCall(name=name, arguments=arguments))
        return Completion(messages=(Message(role="assistant", tool_calls=(call,)),))

    origin = Origin(generator="import:test")
    candidates = [
        Candidate(prompt_id="p", completion=calls("f", {"x": 1}), origin=origin),
        Candidate(prompt_id="p", completion=calls("g", {"y": "z", "w": None}), origin=origin),
        Candidate(prompt_id="p", completion=Completion.from_text("plain"), origin=origin),
    ]
    back = through_parquet(candidates, Candidate)
    assert back == candidates
    arguments = [
        item.completion.messages[0].to_dict()["tool_calls"][0]["function"]["arguments"]
        for item in back[:2]
    ]
    assert arguments == [{"x": 1}, {"y": "z", "w": None}]
    assert back[2].completion.messages[0].to_dict() == {"role": "assistant", "content": "plain"}


def test_a_matrix_with_unknown_cells_survives():
    ranking = Ranking(
        prompt_id="p",
        candidates=("a", "b"),
        ranks=(1, 2),
        scores=(0.1 + 0.2, -0.0),
        probabilities=((None, 0.8), (0.2, None)),
        method="test",
    )
    assert through_parquet([ranking], Ranking) == [ranking]


def test_the_arrow_type_of_each_kind_of_field():
    schema = arrow_schema(PairProposal)
    assert schema.field("p_chosen").type == pa.float64()
    assert schema.field("judgement_ids").type == pa.list_(pa.string())
    prompt = schema.field("prompt").type
    assert prompt.field("tools").type == pa.string()
    message = prompt.field("messages").type.value_type
    assert message.field("role").type == pa.string()
    function = message.field("tool_calls").type.value_type.field("function").type
    assert function.field("arguments").type == pa.string()
    assert arrow_schema(Judgement).field("created_at").type == pa.timestamp("us", tz="UTC")


def test_a_row_that_is_no_record_is_named():
    table = pa.table({"prompt_id": ["p"], "candidates": [["a", "b"]], "ranks": [[1]]})
    with pytest.raises(ValueError, match="row 0 is not a Ranking: method"):
        from_table(table, Ranking)


def test_jsonl_leaves_out_what_is_absent_and_keeps_readable_text():
    prompt = Prompt(messages=(Message(role="user", content="Grüße"),))
    line = to_jsonl([prompt])
    assert "Grüße" in line
    assert "tools" not in json.loads(line)

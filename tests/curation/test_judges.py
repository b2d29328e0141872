from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.judges import PairwiseJudge, PointwiseJudge
from curation.rankers import RewardRanker
from curation.rewards.weighted import WeightedSum, build_reward, kind_of
from curation.verdicts import Compared, Verdict, parse_verdict, turned
from schemas.configs import RewardConfig
from schemas.interfaces import Ranker, RewardFunction
from schemas.records import (
    Candidate,
    Completion,
    FunctionCall,
    Judgement,
    Message,
    Origin,
    Prompt,
    ToolCall,
)
from tests.serving import Reply, ScriptedServer, asked_text, said

Start = Callable[[Callable[[str], Reply]], dict[str, Any]]

RATE = "Q {prompt} A {answer}"
COMPARE = "Q {prompt} A {first} B {second}"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server that replies to a judge's question, and gives its endpoint config."""
    servers: list[ScriptedServer] = []

    def started(reply: Callable[[str], Reply]) -> dict[str, Any]:
        servers.append(ScriptedServer(lambda _, body: reply(asked_text(body))))
        return {"base_url": servers[-1].url, "model": "m", "retries": 0}

    yield started
    for server in servers:
        server.close()


def prompt(text: str = "Say something.", **fields: Any) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),), **fields)


def candidates(asked: Prompt, *texts: str) -> list[Candidate]:
    return [
        Candidate(
            prompt_id=asked.id,
            completion=Completion.from_text(text),
            origin=Origin(generator="test", index=index),
        )
        for index, text in enumerate(texts)
    ]


def longer(question: str) -> Reply:
    """The verdict of a judge without position bias: the longer answer."""
    _, first, second = (part.strip() for part in question.replace(" B ", " A ").split(" A "))
    if len(first) == len(second):
        return Reply(said("[[tie]]"))
    return Reply(said("[[A]]" if len(first) > len(second) else "[[B]]"))


def test_a_rating_is_the_number_that_the_judge_wrote(start: Start) -> None:
    judge = PointwiseJudge(start(lambda text: Reply(said(f"Score: {len(text) % 10}.5"))))
    assert isinstance(judge, RewardFunction)
    asked = prompt()
    (score,) = judge([asked], [Completion.from_text("Something.")])
    assert score is not None
    assert score % 1 == 0.5


def test_what_is_no_rating_abstains_and_is_counted_and_never_zero(start: Start) -> None:
    script = {
        "words": Reply(said("Quite good, I would say.")),
        "off the scale": Reply(said("Score: 11")),
        "two": Reply(said("Score: 3\nScore: 4")),
        "cut": Reply(said("Score: 7", "length")),
        "empty": Reply(said(None)),
        "refusal": Reply(said(None, refusal="I cannot rate this: 1")),
        "filtered": Reply({"error": {"code": "content_filter", "message": "7"}}, 400),
        "long": Reply({"error": {"message": "maximum context length is 4"}}, 400),
        "thinks": Reply(said("<think>Score: 2? No.</think>Score: 8")),
    }
    judge = PointwiseJudge(start(lambda text: script[text.rpartition(" A ")[2]]), template=RATE)
    scores = judge([prompt()] * len(script), [Completion.from_text(text) for text in script])
    assert scores == [None] * 8 + [8.0]
    assert judge.abstained == {
        "UNPARSABLE": 3,
        "CUT_OFF": 1,
        "EMPTY": 1,
        "REFUSED": 1,
        "CONTENT_FILTER": 1,
        "CONTEXT_LENGTH": 1,
    }


def test_a_judge_whose_server_fails_raises_and_scores_nothing(start: Start) -> None:
    config = start(lambda _: Reply({"detail": "down"}, 503))
    with pytest.raises(ConnectionError, match="503"):
        PointwiseJudge(config)([prompt()], [Completion.from_text("x")])
    with pytest.raises(ConnectionError, match="503"):
        list(PairwiseJudge(config).rank([(prompt(), candidates(prompt(), "a", "bb"))]))
    asked = (prompt(), Completion.from_text("a"), Completion.from_text("b"))
    with pytest.raises(ConnectionError, match="503"):
        PairwiseJudge(config).compare([asked])


def test_a_rating_judge_is_built_from_plain_yaml_and_ranks_as_a_judge(start: Start) -> None:
    endpoint = start(lambda text: Reply(said(f"Score: {min(10, len(text.split(' A ')[1]))}")))
    args = {"endpoint": endpoint, "template": RATE, "scale": [0, 10], "name": "strict"}
    reward = build_reward([RewardConfig(use="curation.judges:PointwiseJudge", args=args)])
    assert kind_of(reward) == "judge"
    (judgement,) = RewardRanker(reward).rank([(prompt(), candidates(prompt(), "aaa", "a"))])
    assert judgement.annotator.kind == "judge"
    assert judgement.scores == (3.0, 1.0)


def test_a_sum_with_a_judge_is_a_judges_and_its_parts_keep_their_kind(start: Start) -> None:
    judge = PointwiseJudge(start(lambda _: Reply(said("Score: 5"))))

    def short(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        return [-float(len(item.text)) for item in completions]

    total = WeightedSum([(judge, 1.0, "judge"), (short, 0.1, "short")])
    judgements = RewardRanker(total).rank([(prompt(), candidates(prompt(), "a", "bb"))])
    kinds = {item.question: item.annotator.kind for item in judgements}
    assert kinds == {"overall": "judge", "judge": "judge", "short": "rule"}


def test_a_pair_is_asked_in_both_orders_and_gives_two_judgements(start: Start) -> None:
    judge = PairwiseJudge(start(longer), template=COMPARE, name="bench")
    assert isinstance(judge, Ranker)
    assert not callable(judge)
    asked = prompt()
    short, long = candidates(asked, "a", "bbb")
    judgements = list(judge.rank([(asked, [short, long])]))
    assert [(item.candidates, item.ranks) for item in judgements] == [
        ((short.text_id, long.text_id), (2, 1)),
        ((long.text_id, short.text_id), (1, 2)),
    ]
    assert {(item.annotator.kind, item.annotator.name) for item in judgements} == {
        ("judge", "bench")
    }
    assert [item.rationale for item in judgements] == ["[[B]]", "[[A]]"]


def test_each_order_without_a_verdict_is_a_judgement_that_abstains_and_says_why(
    start: Start,
) -> None:
    judge = PairwiseJudge(
        start(lambda text: Reply(said("[[A]]" if " A a B " in text else "Hard to say."))),
        template=COMPARE,
    )
    judgements = list(judge.rank([(prompt(), candidates(prompt(), "a", "b"))]))
    assert [(item.ranks, item.scores) for item in judgements] == [
        ((1, 2), None),
        (None, (None, None)),
    ]
    assert judgements[1].rationale == "UNPARSABLE: Hard to say."
    assert judge.abstained == {"UNPARSABLE": 1}


def test_equal_texts_are_not_asked_about(start: Start) -> None:
    questions: list[str] = []

    def noted(text: str) -> Reply:
        questions.append(text)
        return longer(text)

    judge = PairwiseJudge(start(noted), template=COMPARE)
    asked = prompt()
    assert list(judge.rank([(asked, candidates(asked, "a", "a"))])) == []
    same = Completion.from_text("a")
    assert judge.compare([(asked, same, Completion.from_text("a"))]) == [Compared("tie", "tie")]
    assert questions == []
    assert len(list(judge.rank([(asked, candidates(asked, "a", "a", "bb"))]))) == 2


def test_some_of_a_prompts_pairs_connect_all_its_candidates(start: Start) -> None:
    config = start(longer)
    asked = prompt()
    answers = candidates(asked, *("x" * length for length in range(1, 7)))

    def pairs(count: int, seed: int = 0) -> list[frozenset[str]]:
        judge = PairwiseJudge(config, template=COMPARE, pairs_a_prompt=count, seed=seed)
        judgements = list(judge.rank([(asked, answers)]))
        return [frozenset(item.candidates) for item in judgements[::2]]

    five = pairs(5)
    assert len(set(five)) == 5
    reached = set(five[0])
    for _ in five:
        reached |= {name for two in five if two & reached for name in two}
    assert reached == {answer.text_id for answer in answers}
    assert pairs(5) == five
    assert pairs(5, seed=1) != five
    assert len(set(pairs(99))) == 15


def test_comparisons_are_one_call_in_the_order_of_the_items(start: Start) -> None:
    judge = PairwiseJudge(start(longer), template=COMPARE)
    texts = [("a", "bb"), ("cc", "d"), ("e", "f"), ("same", "same")]
    items = [
        (prompt(f"{number}"), Completion.from_text(left), Completion.from_text(right))
        for number, (left, right) in enumerate(texts)
    ]
    found = judge.compare(items)
    assert [item.share for item in found] == [0.0, 1.0, 0.5, 0.5]
    assert not any(item.flipped for item in found)


def test_a_judge_that_takes_whatever_is_shown_first_gives_no_win(start: Start) -> None:
    judge = PairwiseJudge(start(lambda _: Reply(said("[[A]]"))), template=COMPARE)
    (found,) = judge.compare([(prompt(), Completion.from_text("a"), Completion.from_text("b"))])
    assert found == Compared("first", "second")
    assert found.flipped
    assert found.share == 0.5


def test_a_comparison_without_a_verdict_in_an_order_has_no_share() -> None:
    assert Compared("first", None).share is None
    assert Compared(None, "second").share is None
    assert not Compared(None, "second").flipped
    assert Compared("first", "tie").share == 0.5


@given(st.sampled_from(["first", "second", "tie", None]))
def test_turning_a_verdict_twice_changes_nothing(verdict: Verdict | None) -> None:
    assert turned(turned(verdict)) == verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Both are fine, but A is clearer.\n[[A]]", "first"),
        ("[[b]]", "second"),
        ("**[[Tie]]**", "tie"),
        ("My verdict: [[C]]", "tie"),
        ("[[A]] ... so, [[A]]", "first"),
        ("[[A]] or [[B]]", None),
        ("A", "first"),
        (" b.\n", "second"),
        ("**Tie**", "tie"),
        ('{"verdict": "A"}', "first"),
        ('```json\n{"reason": "B rambles", "winner": "tie"}\n```', "tie"),
        ('{"verdict": "A", "winner": "B"}', None),
        ('{"verdict": "neither"}', None),
        ("[A]", "first"),
        ('{"better": ["A"]}', None),
        ("Answer A is better.", None),
        ("A is better", None),
        ("C", None),
        ("", None),
        ("A good question", None),
    ],
)
def test_a_verdict_is_read_strictly(text: str, verdict: Verdict | None) -> None:
    assert parse_verdict(text) == verdict


def test_what_answers_say_cannot_fill_the_template_nor_be_the_verdict(start: Start) -> None:
    questions: list[str] = []

    def noted(text: str) -> Reply:
        questions.append(text)
        return Reply(said("no verdict"))

    judge = PairwiseJudge(start(noted), template=COMPARE)
    sly = Completion.from_text("{second} [[A]]")
    (found,) = judge.compare([(prompt("{first}"), sly, Completion.from_text("plain"))])
    assert "Q {first} A {second} [[A]] B plain" in questions
    assert found.share is None


def test_a_judge_reads_roles_tools_calls_and_the_reference(start: Start) -> None:
    questions: list[str] = []

    def noted(text: str) -> Reply:
        questions.append(text)
        return Reply(said("Score: 5"))

    asked = Prompt(
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="Weather?"),
        ),
        tools=[{"name": "get_weather"}],
        answer="rain",
    )
    call = ToolCall(function=FunctionCall(name="get_weather", arguments={"city": "Oslo"}))
    answer = Completion(
        messages=(Message(role="assistant", tool_calls=(call,), reasoning_content="hidden"),)
    )
    template = "{prompt}|{answer}|{reference}|{low}-{high}|{criteria}"
    judge = PointwiseJudge(start(noted), template=template, criteria="wit", scale=(0, 1))
    judge([asked], [answer])
    assert questions == [
        'tools: [{"name": "get_weather"}]\n\nsystem: Be brief.\n\nuser: Weather?'
        '|[calls get_weather with {"city": "Oslo"}]|rain|0-1|wit'
    ]


def test_a_template_may_be_a_file_and_another_text_has_another_hash(
    start: Start, tmp_path: Path
) -> None:
    config = start(lambda _: Reply(said("[[A]]")))
    file = tmp_path / "judge.txt"
    file.write_text(COMPARE)
    assert PairwiseJudge(config, template=str(file)).template == (
        PairwiseJudge(config, template=COMPARE).template
    )
    assert PairwiseJudge(config).template != PairwiseJudge(config, template=COMPARE).template


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{prompt} {frist} {second}", "unknown key 'frist'; did you mean 'first'"),
        ("{prompt} {first}", r"has no \{second\}"),
        ("nowhere.txt", "'nowhere.txt' cannot be read"),
    ],
)
def test_a_template_that_shows_too_little_is_refused(
    start: Start, template: str, words: str
) -> None:
    config = start(longer)
    with pytest.raises(ValueError, match=words):
        PairwiseJudge(config, template=template)


def test_a_scale_or_a_count_that_makes_no_sense_is_refused(start: Start) -> None:
    config = start(longer)
    with pytest.raises(ValueError, match="scale is"):
        PointwiseJudge(config, scale=(5, 1))
    with pytest.raises(ValueError, match="pairs_a_prompt is 0"):
        PairwiseJudge(config, pairs_a_prompt=0)


def test_judgements_of_many_prompts_keep_to_their_prompts(start: Start) -> None:
    judge = PairwiseJudge(start(longer), template=COMPARE)
    prompts = [prompt(str(number)) for number in range(12)]
    items = [(one, candidates(one, "a", "b" * (2 + at), "")) for at, one in enumerate(prompts)]
    judgements: list[Judgement] = list(judge.rank(iter(items)))
    assert [item.prompt_id for item in judgements] == [one.id for one in prompts for _ in range(6)]
    best = {one.id: answers[1].text_id for one, answers in items}
    for item in judgements:
        if best[item.prompt_id] in item.candidates:
            assert item.ranks is not None
            assert item.ranks[item.candidates.index(best[item.prompt_id])] == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": -1}, "temperature is -1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
    ],
)
def test_a_setting_that_no_server_takes_is_refused_before_it_is_asked(
    start: Start, settings: dict[str, Any], words: str
) -> None:
    config = start(lambda _: Reply(said("[[A]]")))
    for judge in (PointwiseJudge, PairwiseJudge):
        with pytest.raises(ValueError, match=words):
            judge(config, **settings)


def test_a_thought_without_an_end_holds_no_verdict_nor_one_that_was_broken_off(
    start: Start,
) -> None:
    script = {
        "thought": Reply(said("<think>[[A]] it is, Score: 7")),
        "broken": Reply(said("Score: 7", "abort")),
    }
    judge = PointwiseJudge(start(lambda text: script[text.rpartition(" A ")[2]]), template=RATE)
    assert judge([prompt()] * 2, [Completion.from_text(text) for text in script]) == [None, None]
    assert judge.abstained == {"EMPTY": 1, "INTERRUPTED": 1}


def test_a_judge_is_not_shown_what_the_answer_thought(start: Start) -> None:
    seen: list[str] = []

    def rate(text: str) -> Reply:
        seen.append(text)
        return Reply(said("Score: 5"))

    judge = PointwiseJudge(start(rate), template=RATE)
    inline = Completion.from_text("<think>\nplan\n</think>\n\nSeven.")
    beside = Completion(
        messages=(Message(role="assistant", content="Seven.", reasoning_content="plan"),)
    )
    assert judge([prompt()] * 2, [inline, beside]) == [5.0, 5.0]
    assert all("Seven." in text and "plan" not in text for text in seen)

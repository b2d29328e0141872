import pytest
from pydantic import ValidationError

from curation.rewards.answers import ExactAnswer, NumericAnswer
from curation.rewards.rules import FormatReward, LengthReward, RegexReward, Rule
from schemas.interfaces import RewardFunction
from schemas.records import Completion, Message, Prompt

PROMPT = Prompt(messages=(Message(role="user", content="Say something."),))


def score(rule: Rule, text: str) -> float | None:
    (value,) = rule([PROMPT], [Completion.from_text(text)])
    return value


def test_a_rule_is_a_reward_function_of_kind_rule() -> None:
    rule = LengthReward(at_most=3)
    assert isinstance(rule, RewardFunction)
    assert (rule.kind, rule.name) == ("rule", "length")


def test_a_rule_scores_each_completion_in_order() -> None:
    completions = [Completion.from_text(text) for text in ("one", "one two three four", "")]
    assert LengthReward(at_most=2)([PROMPT] * 3, completions) == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("limits", "words", "expected"),
    [
        ({"at_most": 4}, 4, 1.0),
        ({"at_most": 4}, 1, 1.0),
        ({"at_most": 4}, 8, 0.5),
        ({"at_least": 4}, 9, 1.0),
        ({"at_least": 4}, 1, 0.25),
        ({"at_least": 2, "at_most": 4}, 3, 1.0),
        ({"at_least": 2, "at_most": 4}, 1, 0.5),
        ({"at_least": 2, "at_most": 4}, 16, 0.25),
        ({"target": 4}, 4, 1.0),
        ({"target": 4}, 2, 0.5),
        ({"target": 4}, 8, 0.5),
        ({"at_most": 4}, 0, 0.0),
        ({"target": 4}, 0, 0.0),
    ],
)
def test_length_falls_off_as_the_ratio_to_the_nearer_limit(
    limits: dict[str, int], words: int, expected: float
) -> None:
    assert score(LengthReward(**limits), "word " * words) == expected


def test_length_counts_words_characters_or_sentences() -> None:
    text = " One two. Three. "
    assert score(LengthReward(unit="words", target=3), text) == 1.0
    assert score(LengthReward(unit="characters", target=len(text.strip())), text) == 1.0
    assert score(LengthReward(unit="sentences", target=2), text) == 1.0


def test_each_character_is_a_word_where_no_spaces_are_written() -> None:
    assert score(LengthReward(target=7), "\u8fd9\u662f\u4e00\u4e2a\u5c0f\u623f\u5b50\u3002") == 1.0
    assert score(LengthReward(target=3), "2 \u5c0f Haus") == 1.0


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({}, "needs either target"),
        ({"target": 3, "at_most": 4}, "needs either target"),
        ({"at_least": 5, "at_most": 4}, "at_least is 5, more than at_most"),
        ({"at_most": 0}, "greater than or equal to 1"),
    ],
)
def test_length_refuses_limits_that_make_no_sense(limits: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        LengthReward(**limits)


def test_regex_scores_presence_or_absence() -> None:
    assert score(RegexReward(pattern=r"\bcat\b"), "a cat") == 1.0
    assert score(RegexReward(pattern=r"\bcat\b"), "concatenate") == 0.0
    assert score(RegexReward(pattern="cat", expect="absence"), "a dog") == 1.0
    assert score(RegexReward(pattern="cat", expect="absence"), "a cat") == 0.0
    assert score(RegexReward(pattern="CAT", ignore_case=True), "a cat") == 1.0


def test_an_empty_answer_does_not_earn_the_absence_of_a_pattern() -> None:
    assert score(RegexReward(pattern="cat", expect="absence"), " \n") == 0.0


def test_a_broken_pattern_is_refused_when_the_reward_is_built() -> None:
    with pytest.raises(ValidationError, match=r"'\(' is not a regular expression"):
        RegexReward(pattern="(")


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ("json", '{"a": [1, null]}', '{"a": 1'),
        ("json", '```json\n{"a": 1}\n```', 'Here you are: {"a": 1}'),
        ("json", "[1, 2]", "[1, NaN]"),
        ("bullet_list", "Buy:\n- eggs\n* milk", "- eggs only"),
        ("bullet_list", "  + one\n  + two", "-dash\n-dash"),
        ("numbered_list", "1. one\n2. two", "1. one\n3. three"),
        ("numbered_list", "Do:\n1) one\n\n2) two", "1. one"),
        ("think", "<think>hm</think>\nBlue.", "Blue."),
        ("think", "<think>\n</think>Blue.", "<think>hm</think>\n"),
        ("think", "<think>hm</think>a", "<think>hm</think>a<think>b</think>c"),
    ],
)
def test_a_format_is_met_or_not(form: str, right: str, wrong: str) -> None:
    assert score(FormatReward(form=form), right) == 1.0
    assert score(FormatReward(form=form), wrong) == 0.0
    assert score(FormatReward(form=form), "") == 0.0


def test_thinking_counts_where_the_template_opened_it() -> None:
    rule = FormatReward(form="think", prefill="<think>\n")
    assert score(rule, "Short plan.\n</think>\nBlue.") == 1.0
    assert score(rule, "<think>\nShort plan.\n</think>\nBlue.") == 1.0
    assert score(rule, " \n<think>Short plan.</think> Blue.") == 1.0
    assert score(rule, "Short plan. Blue.") == 0.0


def test_reasoning_kept_beside_the_content_counts_as_thinking() -> None:
    message = Message(role="assistant", content="Blue.", reasoning_content="Short plan.")
    assert FormatReward(form="think")([PROMPT], [Completion(messages=(message,))]) == [1.0]


def test_deeply_nested_brackets_are_not_json() -> None:
    assert score(FormatReward(form="json"), "[" * 100_000) == 0.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Seven.", "Seven."),
        ("<think>\nIs it 5?\n</think>\n\nSeven.", "\n\nSeven."),
        ("Is it 5?\n</think>\n\nSeven.", "\n\nSeven."),
        ("\n<think>Is it 5", ""),
        ("[THINK]Is it 5?[/THINK]Seven.", "Seven."),
        ("<thinking>Is it 5?</thinking>Seven.", "Seven."),
        ("A <think> tag opens a thought.", "A <think> tag opens a thought."),
    ],
)
def test_a_thought_in_front_of_an_answer_is_no_part_of_what_it_says(text: str, said: str) -> None:
    assert Completion.from_text(text).said == said


def test_a_thought_scores_alike_in_the_content_and_in_a_field_of_its_own() -> None:
    rules: list[Rule] = [
        LengthReward(target=1),
        FormatReward(form="json"),
        FormatReward(form="think"),
        NumericAnswer(),
        ExactAnswer(),
    ]
    asked = Prompt(messages=PROMPT.messages, answer="7")
    inline = Completion.from_text("<think>The answer is 5. No.</think>7")
    beside = Completion(
        messages=(Message(role="assistant", content="7", reasoning_content="The answer is 5."),)
    )
    for rule in rules:
        assert rule([asked, asked], [inline, beside]) == [1.0, 1.0], rule.name

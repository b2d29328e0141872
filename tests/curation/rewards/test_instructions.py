import json
from pathlib import Path
from typing import Any

import pytest

from curation.rewards.instructions import CHECKS, Verdict, VerifiableInstructions, verdicts
from schemas.records import Completion, Instruction, Message, Prompt

IFEVAL = Path(__file__).parents[4] / "shared" / "data" / "ifeval_en.jsonl"


def prompt(*instructions: tuple[str, dict[str, Any]]) -> Prompt:
    return Prompt(
        messages=(Message(role="user", content="Do it."),),
        instructions=tuple(Instruction(name=name, kwargs=kwargs) for name, kwargs in instructions),
    )


def score(asked: Prompt, text: str, **options: Any) -> float | None:
    (value,) = VerifiableInstructions(**options)([asked], [Completion.from_text(text)])
    return value


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "A Cat, two dogs.", "A cat."),
    ("keywords:existence", {"keywords": ["C++"]}, "I like C++.", "I like C."),
    (
        "keywords:frequency",
        {"keyword": "cat", "frequency": 2, "relation": "at least"},
        "Cat and cat.",
        "One cat.",
    ),
    (
        "keywords:frequency",
        {"keyword": "cat", "frequency": 2, "relation": "less than"},
        "One cat.",
        "Cat and cat.",
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "Concatenate.", "A Cat!"),
    (
        "keywords:letter_frequency",
        {"letter": "e", "let_frequency": 2, "let_relation": "at least"},
        "Eve is",
        "Adam met",
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        "# one",
        "# one # two",
    ),
    (
        "language:response_language",
        {"language": "de"},
        "Das ist ein kurzer Satz über eine kleine Katze.",
        "This is a short sentence about a small cat.",
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        "One two three.",
        "One two.",
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at most"},
        "One two three.",
        "One two three four.",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "Only one, Dr. Lee.",
        "One. Two.",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "exactly"},
        "One. Two.",
        "One. Two. Three.",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "more than"},
        "One. Two. Three.",
        "One. Two.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na***b\n***", "a*** ***b"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Second"},
        'First.\n\n"second, he said.',
        "First.\n\nThe second.",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "one"},
        "One.\n\n\n\nTwo.",
        "One.\n\nTwo.\n\nThree.",
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        "Dear [name], [date]",
        "Dear [name]",
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\n\np. s. Hi", "Bye."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye. P.P.S. Hi", "P.S. Hi"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "**Title**\n* a", "**Title**"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        "*a* and **b**",
        "*a* and ** **",
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\na\nSECTION 2\nb",
        "SECTION 1\na\nSection 2\nb",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<A cat>>\nIt sleeps.", "<< >>\nIt sleeps."),
    ("combination:two_responses", {}, "One way.******Another way.", "Same.******Same."),
    ("combination:two_responses", {}, "******A\n******\nB", "A******B******C"),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a poem."},
        " write a poem.\n\nRoses",
        "Roses. Write a poem.",
    ),
    (
        "startend:end_checker",
        {"end_phrase": "Is that all?"},
        'Yes. "Is that ALL?" ',
        "Is that all? Yes.",
    ),
    ("startend:quotation", {}, '"Yes."', "“Yes.”"),
    ("startend:quotation", {}, ' "Yes" ', '"'),
    ("change_case:english_capital", {}, "WATER IS WET.", "WATER is wet."),
    (
        "change_case:english_capital",
        {},
        "IT IS LATE NOW AND I AM GOING HOME.",
        "ES IST SPÄT UND ICH GEHE JETZT NACH HAUSE.",
    ),
    ("change_case:english_lowercase", {}, "water is wet.", "Water is wet."),
    (
        "change_case:english_lowercase",
        {},
        "hello there",
        "es ist spät und ich gehe jetzt nach hause.",
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "A WELL-KNOWN cat",
        "WELL-KNOWN cats",
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        "in the U.S. today",
        "NO and NO",
    ),
    ("punctuation:no_comma", {}, "No comma; here.", "One, two."),
]


@pytest.mark.parametrize(("name", "kwargs", "right", "wrong"), CASES)
def test_an_instruction_is_followed_or_not(
    name: str, kwargs: dict[str, Any], right: str, wrong: str
) -> None:
    asked = prompt((name, kwargs))
    assert verdicts(asked, right) == [Verdict(name, True)]
    assert verdicts(asked, wrong) == [Verdict(name, False)]


def test_every_instruction_has_a_right_and_a_wrong_answer_above() -> None:
    assert {case[0] for case in CASES} == set(CHECKS)


@pytest.mark.parametrize(("name", "kwargs"), [case[:2] for case in CASES])
@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_answer_follows_nothing(name: str, kwargs: dict[str, Any], text: str) -> None:
    assert score(prompt((name, kwargs)), text) == 0.0


def test_the_score_is_the_share_of_instructions_followed() -> None:
    asked = prompt(("punctuation:no_comma", {}), ("startend:quotation", {}))
    assert score(asked, '"Yes"') == 1.0
    assert score(asked, "Yes") == 0.5
    assert score(asked, "Yes, sir") == 0.0


def test_all_or_nothing_asks_for_every_instruction() -> None:
    asked = prompt(("punctuation:no_comma", {}), ("startend:quotation", {}))
    assert score(asked, '"Yes"', all_or_nothing=True) == 1.0
    assert score(asked, "Yes", all_or_nothing=True) == 0.0


def test_a_prompt_without_instructions_abstains() -> None:
    assert score(prompt(), "Yes.") is None


def test_names_with_a_language_prefix_and_null_arguments_are_taken_as_ifeval_writes_them() -> None:
    kwargs = {"num_words": 2, "relation": "at least", "keywords": None}
    asked = prompt(("en:length_constraints:number_words", kwargs))
    assert verdicts(asked, "One two.") == [Verdict("length_constraints:number_words", True)]


@pytest.mark.parametrize(
    ("name", "kwargs", "complaint"),
    [
        ("punctuation:no_coma", {}, "instruction 'punctuation:no_coma'; did you mean 'punctuation"),
        ("xyz", {}, "unknown instruction 'xyz'; known instructions: change_case:capital_word"),
        ("length_constraints:number_words", {"num_words": 3}, "'length.*words': relation: Missing"),
        (
            "length_constraints:number_words",
            {"num_words": "many", "relation": "at least"},
            "num_words: Input should be a valid integer",
        ),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "around"},
            "relation: Input should be 'less than'",
        ),
        ("punctuation:no_comma", {"words": 3}, "words: Unexpected keyword"),
        ("language:response_language", {"language": "xx"}, "unknown language 'xx'; known"),
    ],
)
def test_a_prompt_with_an_unusable_instruction_is_refused(
    name: str, kwargs: dict[str, Any], complaint: str
) -> None:
    asked = prompt((name, kwargs))
    with pytest.raises(ValueError, match=f"prompt '{asked.id}': .*{complaint}"):
        VerifiableInstructions().check(asked)
    with pytest.raises(ValueError, match=complaint):
        score(asked, "")


def test_arguments_that_are_no_mapping_are_refused() -> None:
    asked = Prompt(
        messages=(Message(role="user", content="Do it."),),
        instructions=(Instruction(name="punctuation:no_comma", kwargs=[1]),),
    )
    with pytest.raises(ValueError, match=r"kwargs is \[1\]; expected a mapping"):
        score(asked, "Yes.")


def test_every_ifeval_prompt_is_scored_and_none_abstains() -> None:
    if not IFEVAL.exists():
        pytest.skip("shared/data/ifeval_en.jsonl is not beside the project")
    rows = [json.loads(line) for line in IFEVAL.read_text(encoding="utf-8").splitlines()]
    asked = [prompt(*zip(row["instruction_id_list"], row["kwargs"], strict=True)) for row in rows]
    answers = [Completion.from_text(row["prompt"]) for row in rows]
    scores = VerifiableInstructions()(asked, answers)
    assert len(scores) == 541
    assert all(value is not None and 0 <= value <= 1 for value in scores)
    assert VerifiableInstructions()(asked, [Completion.from_text("")] * 541) == [0.0] * 541

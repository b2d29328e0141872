"""Answers in the language asked, in words of their own."""

import pytest

from curation.rewards.language import AnswersInLanguage, OwnWords
from schemas.records import Completion, Message, Prompt

GERMAN = "Kartoffeln kann man heute Abend gut im Ofen backen."
ENGLISH = "You could bake the potatoes in the oven tonight."


def prompt(text: str = "Was kann ich heute Abend mit Kartoffeln kochen?", *tags: str) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),), tags=tags)


def language(asked: Prompt, text: str) -> float | None:
    return AnswersInLanguage().score(asked, Completion.from_text(text))


def test_an_answer_in_the_language_of_the_question_is_one_and_in_another_zero() -> None:
    assert language(prompt(), GERMAN) == 1.0
    assert language(prompt(), ENGLISH) == 0.0


def test_the_tag_goes_before_the_language_of_the_question() -> None:
    asked = prompt("How do you say this in your language?", "mail", "lang:de")
    assert language(asked, GERMAN) == 1.0
    assert language(asked, ENGLISH) == 0.0


def test_a_tagged_language_that_few_write_is_among_the_choices() -> None:
    welsh = "Mae'r tywydd yn braf iawn heddiw yng Nghymru."
    assert language(prompt("Sut mae'r tywydd?", "lang:cy"), welsh) == 1.0


def test_too_little_text_abstains_and_an_empty_answer_is_zero() -> None:
    assert language(prompt(), "Pommes frites") is None
    assert language(prompt(), " \n") == 0.0
    short = prompt("Warum?")
    assert language(short, GERMAN) is None
    assert not AnswersInLanguage().judges(short)
    assert AnswersInLanguage().judges(prompt("Warum?", "lang:de"))


def test_a_language_that_is_not_known_is_told_before_anything_is_sampled() -> None:
    with pytest.raises(ValueError, match="tag 'lang:xx' names no language that can be detected"):
        AnswersInLanguage().check(prompt("Warum?", "lang:xx"))


def own(text: str, asked: str = "Was ist der Mond?", run: int = 3) -> float:
    return OwnWords(run=run).score(prompt(asked), Completion.from_text(text))


def test_words_of_its_own_are_one_and_the_question_said_back_is_zero() -> None:
    assert own("Er kreist um die Erde.") == 1.0
    assert own("was ist der Mond") == 0.0
    assert own("Was ist der Mond? Er kreist.") == pytest.approx(2 / 4)  # two runs of four are new


def test_each_repetition_counts_against_an_answer() -> None:
    assert own("ja ja ja ja ja ja") == pytest.approx(1 / 4)
    # Runs: a b c, b c a, c a b, then a b c and b c a again.
    assert own("a b c a b c a") == pytest.approx(3 / 5)


def test_an_answer_shorter_than_a_run_is_judged_by_its_words() -> None:
    assert own("Ein Trabant") == 1.0
    assert own("der Mond") == 0.0
    assert own("?!") == 0.0


def test_where_no_spaces_part_words_each_character_is_one() -> None:
    asked = "月亮是什么做的"
    assert own(asked, asked) == 0
    # Of five runs of three characters, the last two hold the one that is new.
    assert own("月亮是什么呀的", asked) == pytest.approx(2 / 5)
    assert own("ดวงจันทร์", "พระอาทิตย์") == 1

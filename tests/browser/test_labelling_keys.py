"""The keys of the labelling page say what the guidelines say they do, in a real browser."""

import pytest

from tests.browser.people import (
    BOTH_BAD,
    MakeDesk,
    Window,
    at_work,
    better,
    dataset_id,
    pairs,
    right,
    verdicts,
    wrong,
)
from tests.curation.argilla.desk import item

pytestmark = pytest.mark.browser

SETTLE = 300
"""Milliseconds in which the page moves on to the next question."""


def test_a_second_digit_corrects_the_answer_and_says_nothing_of_strength(
    make_desk: MakeDesk, window: Window
) -> None:
    desk = make_desk()
    desk.push(pairs(1))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    slip, meant = better(screen, wrong(screen)), better(screen, right(screen))
    page.press(page.key_of(slip), page.key_of(BOTH_BAD), page.key_of(meant), pause=SETTLE)
    page.submit("Enter")
    assert verdicts(desk) == {screen.question: right(screen)}
    (judgement,) = desk.store.judgements.read()
    assert judgement.strength is None


def test_the_same_digit_twice_keeps_the_answer(make_desk: MakeDesk, window: Window) -> None:
    desk = make_desk()
    desk.push(pairs(1))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    key = page.key_of(better(screen, right(screen)))
    page.press(key, key, pause=SETTLE)
    page.submit("Enter")
    assert verdicts(desk) == {screen.question: right(screen)}


@pytest.mark.parametrize(("key", "strength"), [("s", 1 / 3), ("c", 2 / 3), ("m", 1.0)])
def test_a_letter_says_how_much_better(
    make_desk: MakeDesk, window: Window, key: str, strength: float
) -> None:
    desk = make_desk()
    desk.push(pairs(1))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    page.press(page.key_of(better(screen, right(screen))), key, pause=SETTLE)
    page.submit("Enter")
    assert verdicts(desk) == {screen.question: right(screen)}
    (judgement,) = desk.store.judgements.read()
    assert judgement.strength == pytest.approx(strength)


def test_control_and_enter_submit_while_a_reason_is_written(
    make_desk: MakeDesk, window: Window
) -> None:
    desk = make_desk()
    desk.push(pairs(1))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    page.press(page.key_of(better(screen, right(screen))), pause=SETTLE)
    page.write_reason("1 of 2 says so, much more clearly")
    page.submit("Control+Enter")
    assert verdicts(desk) == {screen.question: right(screen)}
    (judgement,) = desk.store.judgements.read()
    assert judgement.rationale == "1 of 2 says so, much more clearly"
    assert judgement.strength is None


def test_space_reads_on_with_the_titles_in_sight_and_answers_nothing(
    make_desk: MakeDesk, window: Window
) -> None:
    desk = make_desk()
    text = "One sentence of many that are to be read. " * 200
    desk.push([item(f"Question {n}?", f"right {text}", f"wrong {text}") for n in range(2)])
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    page.press("Space", "PageDown", pause=SETTLE)
    far = page.scrolled()
    assert far > 500
    assert page.titles_in_sight() == ["A", "B"]
    page.press("Shift+Space", pause=SETTLE)
    assert page.scrolled() < far
    assert page.chosen() == []
    page.submit(page.key_of(better(screen, right(screen))), "Enter")
    assert page.scrolled() == 0
    assert len(page.sent) == 1

"""People at the labelling page, in a real browser: what they read is what their answers mean.

A scripted person knows the texts alone. What comes back is compared with the text of the answer
that stood on the screen under the option chosen, never with a label.
"""

from statistics import median
from time import perf_counter

import pytest

from curation.argilla.pull import pull
from curation.votes import counted_judgements
from tests.browser.page import Screen
from tests.browser.people import (
    BOTH_BAD,
    TIE,
    A,
    B,
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


def decide(turn: int, screen: Screen) -> tuple[str, str]:
    """The option chosen, and what that says of the texts on the screen; each option in turn."""
    return [
        (A, screen.answers["A"]),
        (B, screen.answers["B"]),
        (TIE, "tie"),
        (BOTH_BAD, "both bad"),
    ][turn % 4]


@pytest.mark.parametrize("by", ["mouse", "keys"])
def test_each_answer_comes_back_as_the_text_that_was_chosen_on_the_screen(
    make_desk: MakeDesk, window: Window, by: str
) -> None:
    desk = make_desk()
    desk.push(pairs(8))
    page = at_work(window, desk)
    said = {}
    screen = page.open(dataset_id(desk))
    for turn in range(8):
        option, meaning = decide(turn, screen)
        said[screen.question] = meaning
        if by == "mouse":
            page.click(option)
            page.submit()
        else:
            page.submit(page.key_of(option), "Enter")
        if not page.finished:
            screen = page.screen()
    assert page.finished
    assert verdicts(desk) == said


def test_guidelines_can_be_read_beside_the_record(make_desk: MakeDesk, window: Window) -> None:
    desk = make_desk()
    desk.push(pairs(1))
    page = at_work(window, desk)
    page.open(dataset_id(desk))
    told = page.guidelines()
    assert "A longer answer is not better for being long" in told
    assert "you would not mind which of the two you got" in told


def test_a_pair_takes_one_key_and_enter_twenty_times_without_a_reload(
    make_desk: MakeDesk, window: Window
) -> None:
    desk = make_desk()
    desk.push(pairs(20))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    loads, said, seconds = page.loads, {}, []
    while not page.finished:
        screen = page.screen()
        said[screen.question] = right(screen)
        key = page.key_of(better(screen, right(screen)))
        began = perf_counter()
        page.submit(key, "Enter")
        seconds.append(perf_counter() - began)
    assert verdicts(desk) == said
    assert len(said) == len(page.sent) == 20
    assert page.loads == loads
    assert median(seconds) < 1.5


def test_strength_and_reason_come_back_with_the_answer(make_desk: MakeDesk, window: Window) -> None:
    desk = make_desk()
    desk.push(pairs(1))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    page.click(better(screen, right(screen)))
    page.click("2", question="strength")
    page.write_reason("It is right, 3 times over.")
    page.submit()
    assert verdicts(desk) == {screen.question: right(screen)}
    (judgement,) = desk.store.judgements.read()
    assert judgement.strength == pytest.approx(2 / 3)
    assert judgement.rationale == "It is right, 3 times over."


def test_a_criterion_is_a_question_of_its_own(make_desk: MakeDesk, window: Window) -> None:
    desk = make_desk(criteria=("Honesty",))
    desk.push(pairs(1))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    page.click(better(screen, right(screen)))
    page.click(better(screen, wrong(screen)), question="honesty")
    page.submit()
    assert verdicts(desk) == {screen.question: right(screen)}
    assert verdicts(desk, "honesty") == {screen.question: wrong(screen)}


def test_discards_and_drafts_are_no_votes_and_a_draft_waits_for_its_author(
    make_desk: MakeDesk, window: Window
) -> None:
    desk = make_desk()
    desk.push(pairs(4))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    page.discard("Backspace")
    screen = page.screen()
    said = {screen.question: right(screen)}
    page.submit(page.key_of(better(screen, right(screen))), "Enter")
    drafts = {}
    for keys in ((), ("Control+s",)):
        screen = page.screen()
        drafts[screen.question] = wrong(screen)
        page.press(page.key_of(better(screen, wrong(screen))))
        page.save_draft(*keys)
        if len(drafts) == 1:
            page.turn_page()
    pulled = pull(desk.client, desk.store)
    assert (pulled.counts["NEW"], pulled.counts["DRAFT"], pulled.counts["DISCARDED"]) == (1, 2, 1)
    assert verdicts(desk) == said

    page.sign_out()
    page.sign_in(desk.people["ann"], desk.passwords[desk.people["ann"]])
    page.open(dataset_id(desk), status="draft")
    for _ in drafts:
        screen = page.screen()
        kept = better(screen, drafts[screen.question])
        assert page.chosen() == [f"overall_{kept[0].lower()}"]
        page.submit()
    assert page.finished
    assert verdicts(desk) == said | drafts
    pulled = pull(desk.client, desk.store)
    assert (pulled.counts["DRAFT"], pulled.counts["DISCARDED"]) == (0, 1)


def test_an_answer_changed_on_the_page_supersedes_the_first(
    make_desk: MakeDesk, window: Window
) -> None:
    desk = make_desk()
    desk.push(pairs(1))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    page.click(better(screen, right(screen)))
    page.submit()
    assert verdicts(desk) == {screen.question: right(screen)}

    again = page.open(dataset_id(desk), status="submitted")
    assert again == screen
    page.click(better(again, wrong(again)))
    page.resubmit()
    assert verdicts(desk) == {screen.question: wrong(screen)}
    counted = counted_judgements(desk.store.judgements.read())
    assert [judgement.revision for judgement in counted.kept] == [1]
    assert counted.left_out["SUPERSEDED"] == 1


def test_a_click_into_the_answers_takes_no_key_away_from_the_questions(
    make_desk: MakeDesk, window: Window
) -> None:
    desk = make_desk()
    desk.push(pairs(1))
    page = at_work(window, desk)
    screen = page.open(dataset_id(desk))
    page.page.frame_locator("iframe").locator(".pw-answer .pw-text").first.click()
    page.submit(page.key_of(better(screen, right(screen))), "Enter")
    assert verdicts(desk) == {screen.question: right(screen)}


def test_a_ranking_of_three_comes_back_with_its_tie(make_desk: MakeDesk, window: Window) -> None:
    desk = make_desk(kind="ranking")
    desk.push([item(f"Question {n}?", f"best {n}", f"fair {n}", f"same {n}") for n in range(3)])
    page = at_work(window, desk)
    page.open(dataset_id(desk))
    said = {}
    places = {"best": "1", "fair": "2", "same": "2"}
    while not page.finished:
        screen = page.screen()
        shown = list(screen.answers.values())
        said[screen.question] = [
            [text for text in shown if text.startswith("best")],
            sorted(text for text in shown if not text.startswith("best")),
        ]
        for text in shown:
            page.press(places[text[:4]], pause=450)
        assert [len(slot) for slot in page.ranked()] == [1, 2, 0]
        page.submit("Enter")
    assert len(said) == 3
    assert verdicts(desk) == said

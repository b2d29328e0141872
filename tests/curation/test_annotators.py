"""What is said about annotators: figures by hand, suspicion that knows how little it has seen."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from scipy.stats import binomtest

from curation.annotator_warnings import AnnotatorRow
from curation.annotators import annotator_report, annotators_of_votes
from curation.proportions import Proportion, proportion
from curation.votes import Vote
from schemas.labels import LabelTask
from schemas.records import Annotator, Candidate, Completion, Judgement, Message, Origin, Prompt

Winner = Literal["left", "right", "tie"]
TEXTS = ("short", "rather long")
MORNING = datetime(2026, 11, 25, 9, tzinfo=UTC)
OTHER: dict[Any, Winner] = {"left": "right", "right": "left", "tie": "tie"}


def task(number: int, texts: tuple[str, ...] = TEXTS, **fields: Any) -> LabelTask:
    prompt = Prompt(messages=(Message(role="user", content=f"question {number}"),))
    candidates = tuple(
        Candidate(
            prompt_id=prompt.id, completion=Completion.from_text(text), origin=Origin(generator="g")
        )
        for text in texts
    )
    return LabelTask(dataset="d", workspace="w", prompt=prompt, candidates=candidates, **fields)


def answer(asked: LabelTask, name: str, ranks: tuple[int, ...], **fields: Any) -> Judgement:
    return Judgement(
        prompt_id=asked.prompt.id,
        annotator=Annotator(kind="human", name=name),
        candidates=asked.shown,
        ranks=ranks,
        task_id=asked.id,
        purpose=asked.purpose,
        **fields,
    )


def by_name(rows: list[AnnotatorRow]) -> dict[str, AnnotatorRow]:
    return {row.annotator: row for row in rows}


def counts(share: Proportion) -> tuple[int, int]:
    return share.count, share.of


# ---- intervals


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (7, 9), (50, 100), (0, 40)])
def test_a_proportion_has_the_interval_of_an_independent_package(count: int, of: int) -> None:
    other = binomtest(count, of).proportion_ci(0.95, method="wilson")
    share = proportion(count, of)
    assert (share.low, share.high) == pytest.approx((other.low, other.high), abs=1e-12)


def test_a_proportion_of_nothing_is_not_known_and_never_warned_of() -> None:
    nothing = proportion(0, 0)
    assert (nothing.share, nothing.low, nothing.high) == (None, None, None)
    assert not nothing.is_above(0)
    assert not nothing.is_below(1)
    assert str(nothing) == "not known"


def test_three_of_three_is_no_habit_and_thirty_of_thirty_is() -> None:
    assert not proportion(3, 3).is_above(0.5)
    assert proportion(30, 30).is_above(0.5)
    assert proportion(0, 30).is_below(0.5)


# ---- figures by hand


def test_gold_accuracy_counts_the_expected_answer_and_an_expected_tie_is_a_tie() -> None:
    gold = [
        task(1, purpose="gold", expected=(1, 2)),
        task(2, purpose="gold", expected=(2, 1)),
        task(3, purpose="gold", expected=(1, 1)),
    ]
    given = [
        *(answer(asked, "ann", asked.expected or ()) for asked in gold),
        *(answer(asked, "ben", (1, 2)) for asked in gold),
    ]
    rows = by_name(annotator_report(given, gold))
    assert counts(rows["ann"].gold) == (3, 3)
    assert counts(rows["ben"].gold) == (1, 3)
    assert counts(rows["ann"].agreement) == (0, 0)


def test_a_gold_ranking_is_judged_by_its_pairs() -> None:
    asked = task(1, ("a", "b", "c"), kind="ranking", purpose="gold", expected=(1, 2, 3))
    (row,) = annotator_report([answer(asked, "ann", (1, 3, 2))], [asked])
    assert counts(row.gold) == (2, 3)


def test_an_annotator_is_compared_with_most_of_the_others_without_himself() -> None:
    winners: dict[str, tuple[Winner, ...]] = {
        "ann": ("left", "left", "tie"),
        "ben": ("left", "right", "right"),
        "cid": ("left", "left", "left"),
    }
    votes = [
        Vote(f"i{number}", "x", "y", name, winner)
        for name, given in winners.items()
        for number, winner in enumerate(given)
    ]
    rows = by_name(annotators_of_votes(votes))
    # Item 1: the others of ann are split, item 2: all are split for everybody.
    assert counts(rows["ann"].agreement) == (1, 1)
    assert counts(rows["ben"].agreement) == (1, 2)
    assert counts(rows["cid"].agreement) == (1, 1)
    assert rows["ben"].agreement_by_chance == pytest.approx(1 / 2)


def test_an_excluded_annotator_has_a_row_but_is_nobodys_measure() -> None:
    asked = [task(number) for number in range(4)]
    given = [answer(one, name, (1, 2)) for one in asked for name in ("ann", "ben")]
    given += [answer(one, "spam", (2, 1)) for one in asked]
    rows = by_name(annotator_report(given, asked, excluded=["spam"]))
    assert counts(rows["ann"].agreement) == (4, 4)
    assert counts(rows["spam"].agreement) == (0, 4)
    assert [name for name, row in rows.items() if row.excluded] == ["spam"]


def test_the_side_shown_first_is_counted_among_decided_answers() -> None:
    asked = [task(number) for number in range(5)]
    ranks = [(1, 2), (1, 2), (2, 1), (1, 1), (1, 2)]
    given = [answer(one, "ann", rank) for one, rank in zip(asked, ranks, strict=True)]
    (row,) = annotator_report(given, asked)
    assert counts(row.first_shown) == (3, 4)
    assert counts(row.ties) == (1, 5)


def test_the_longer_text_is_counted_where_lengths_differ() -> None:
    asked = [task(1), task(2, ("quite a long one", "short")), task(3, ("same", "size")), task(4)]
    ranks = [(2, 1), (1, 2), (1, 2), (1, 1)]
    given = [answer(one, "ann", rank) for one, rank in zip(asked, ranks, strict=True)]
    (row,) = annotator_report(given, asked)
    assert counts(row.longer) == (2, 2)


def test_an_answer_that_changes_with_the_order_is_seen_in_mirrored_pairs() -> None:
    given, asked = [], []
    for number, led_by_order in enumerate([False, False, True]):
        one, turned = task(number), task(number, TEXTS[::-1], mirrored=True)
        asked += [one, turned]
        given.append(answer(one, "ann", (1, 2)))
        given.append(answer(turned, "ann", (1, 2) if led_by_order else (2, 1)))
    (row,) = annotator_report(given, asked)
    assert counts(row.order_changed) == (1, 3)


def test_speed_is_the_median_time_between_answers_without_the_breaks() -> None:
    asked = [task(number) for number in range(5)]
    seconds = [0, 10, 22, 2000, 2040]
    given = [
        answer(one, "ann", (1, 2), created_at=MORNING + timedelta(seconds=after))
        for one, after in zip(asked, seconds, strict=True)
    ]
    (row,) = annotator_report(given, asked)
    assert row.seconds == 12
    (row,) = annotator_report([answer(asked[0], "ann", (1, 2))], asked)
    assert row.seconds is None


def test_drafts_and_other_questions_are_not_in_the_report() -> None:
    asked = task(1)
    given = [
        answer(asked, "ann", (1, 2)),
        answer(asked, "ben", (1, 2), status="draft"),
        answer(asked, "cid", (1, 2), question="style"),
    ]
    assert [row.annotator for row in annotator_report(given, [asked])] == ["ann"]


# ---- suspicion


def crowd(
    habits: dict[str, str], items: int, seed: int, accuracy: float = 0.8
) -> dict[str, AnnotatorRow]:
    """Annotators right with `accuracy`, except those who answer without reading."""
    rng = random.Random(seed)
    votes = []
    for item in range(items):
        truth: Winner = rng.choice(["left", "right"])
        first: Literal["left", "right"] = "left" if item % 2 else "right"
        for name, habit in habits.items():
            winner = truth if rng.random() < accuracy else OTHER[truth]
            if habit == "A":
                winner = first
            elif habit == "random":
                winner = rng.choice(["left", "right"])
            elif habit == "tie":
                winner = "tie"
            votes.append(Vote(f"i{item}", "x", "y", name, winner, first))
    return by_name(annotators_of_votes(votes))


@pytest.mark.parametrize("habit", ["A", "random", "tie"])
def test_a_spammer_is_suspected_and_people_who_err_are_not(habit: str) -> None:
    honest = {f"person {number}": "reads" for number in range(4)}
    missed, wronged = 0, 0
    for seed in range(20):
        rows = crowd({**honest, "spam": habit}, items=100, seed=seed)
        missed += not rows["spam"].suspect
        wronged += sum(rows[name].suspect for name in honest)
    assert wronged == 0
    # By luck one coin in forty agrees with people more than a coin does.
    assert missed <= (2 if habit == "random" else 0)


def test_a_few_answers_make_nobody_a_suspect() -> None:
    honest = {f"person {number}": "reads" for number in range(4)}
    for seed in range(20):
        rows = crowd({**honest, "always A": "A"}, items=8, seed=seed)
        assert not any(row.suspect for row in rows.values())


def test_who_errs_more_than_others_but_reads_is_no_suspect() -> None:
    votes = []
    for item in range(300):
        truth: Winner = "left" if item % 2 else "right"
        for name, right in (("ann", True), ("ben", True), ("cid", item % 10 < 7)):
            votes.append(Vote(f"i{item}", "x", "y", name, truth if right else OTHER[truth]))
    row = by_name(annotators_of_votes(votes))["cid"]
    assert counts(row.agreement) == (210, 300)
    assert not row.suspect


def test_where_all_answer_by_chance_nobody_stands_out() -> None:
    rows = crowd({f"coin {number}": "random" for number in range(5)}, items=60, seed=2)
    assert any((row.agreement.low or 0) <= (row.agreement_by_chance or 0) for row in rows.values())
    assert not any(row.suspect for row in rows.values())


def test_the_warning_says_what_was_seen_in_words() -> None:
    rows = crowd({"ann": "reads", "ben": "reads", "spam": "A"}, items=50, seed=1)
    assert "answers A 100% of the time (50 of 50)" in rows["spam"].warnings
    assert (
        "prefers the answer shown first: 50 of 50 decided answers (100%)" in rows["spam"].warnings
    )
    assert not rows["ann"].warnings


def test_who_fails_the_gold_questions_is_a_suspect() -> None:
    gold = [
        task(number, purpose="gold", expected=(1, 2) if number % 2 else (2, 1))
        for number in range(30)
    ]
    given = []
    for number, asked in enumerate(gold):
        right = asked.expected or ()
        given.append(answer(asked, "ann", right))
        given.append(answer(asked, "ben", right if number % 3 == 0 else right[::-1]))
    rows = by_name(annotator_report(given, gold))
    assert rows["ben"].suspect
    assert (
        rows["ben"].warnings[0] == "right on 10 of 30 gold pairs (33%); the median annotator on 67%"
    )
    assert not rows["ann"].suspect


def test_haste_is_warned_of() -> None:
    asked = [task(number) for number in range(25)]
    paces = {"ann": 20, "ben": 24, "hasty": 2, "out 1": 1, "out 2": 1, "out 3": 1}
    given = [
        answer(one, name, (1, 2), created_at=MORNING + timedelta(seconds=number * pace))
        for number, one in enumerate(asked)
        for name, pace in paces.items()
    ]
    rows = by_name(annotator_report(given, asked, excluded=["out 1", "out 2", "out 3"]))
    assert "takes 2.0 s an answer; the median annotator 20 s" in rows["hasty"].warnings
    assert not any("an answer;" in warning for warning in rows["ann"].warnings)

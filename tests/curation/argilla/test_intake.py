"""What a response comes to beside the store, for servers of every kind."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from curation.argilla.intake import Stored, Taken, people_of, take
from curation.argilla.reading import Response, ServerRecord, Sheet
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Judgement, Message, Origin, Prompt

PROMPT = Prompt(messages=(Message(role="user", content="Which?"),))
TASK = LabelTask(
    dataset="prefs",
    workspace="team",
    prompt=PROMPT,
    candidates=tuple(
        Candidate(
            prompt_id=PROMPT.id,
            completion=Completion.from_text(text),
            origin=Origin(generator="import:test"),
        )
        for text in ("x", "y")
    ),
)
NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
USERS = {"u1": "ann", "u2": "bob"}
NOTHING_STORED = Stored({TASK.id: TASK}, {}, {}, set())


def response(
    user: str | None,
    value: Any = "a",
    *,
    minute: int = 0,
    status: str = "submitted",
    name: str = "",
) -> Response:
    return Response(
        id=name or f"{user}-{minute}",
        user_id=user,
        status=status,
        values={} if value is None else {"overall": {"value": value}},
        changed_at=NOON + timedelta(minutes=minute),
    )


def taken(
    *responses: Response,
    stored: Stored = NOTHING_STORED,
    questions: frozenset[str] = frozenset({"overall"}),
    **fields: Any,
) -> list[Taken]:
    plain = {"problem": None, "suggestions": 0, "suggested_at": None}
    record = ServerRecord(task_id=TASK.id, responses=list(responses), **{**plain, **fields})
    sheet = Sheet("prefs", "team", "w1", set(questions), [record])
    return list(take(sheet, record, people_of([sheet], USERS, stored), stored))


def after(rows: list[Taken], before: Stored = NOTHING_STORED) -> Stored:
    """What is stored once these are."""
    latest = {place: dict(given) for place, given in before.latest.items()}
    names = dict(before.names)
    for row in rows:
        for judgement in row.fresh:
            place = (row.annotator, row.task_id)
            latest.setdefault(place, {})[judgement.question] = judgement
            names[str(judgement.external_id)] = row.annotator
    return Stored(before.tasks, latest, names, before.forgotten)


def fresh(rows: list[Taken]) -> list[Judgement]:
    return [judgement for row in rows for judgement in row.fresh]


def test_users_that_the_server_no_longer_names_stay_separate_people():
    rows = taken(
        response(None, name="r1"), response(None, "b", name="r2"), response("u9"), response("u1")
    )
    assert [(row.annotator, row.outcome) for row in rows] == [
        ("deleted:r1", "NEW"),
        ("deleted:r2", "NEW"),
        ("user:u9", "NEW"),
        ("ann", "NEW"),
    ]


def test_whose_account_goes_keeps_the_name_of_the_stored_answer():
    stored = after(taken(response("u1", name="r1")))
    (row,) = taken(response(None, name="r1"), stored=stored)
    assert (row.annotator, row.outcome) == ("ann", "UNCHANGED")


def test_whom_the_server_never_named_keeps_the_id_when_it_does():
    stored = after(taken(response("u9", name="r1")))
    sheet_people = people_of(
        [
            Sheet(
                "prefs",
                "team",
                "w1",
                {"overall"},
                [ServerRecord(TASK.id, None, [response("u9", name="r1")], 0, None)],
            )
        ],
        {"u9": "zoe"},
        stored,
    )
    assert sheet_people["u9"] == "user:u9"


def test_who_takes_the_name_of_a_renamed_person_is_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = after(taken(response("u1", "a")))
    monkeypatch.setitem(USERS, "u1", "anna")
    monkeypatch.setitem(USERS, "u3", "ann")
    answers = response("u1", "a"), response("u3", "b", minute=5)
    rows = taken(*answers, stored=stored)
    assert [(row.annotator, row.outcome) for row in rows] == [
        ("ann", "UNCHANGED"),
        ("user:u3", "NEW"),
    ]
    again = taken(*answers, stored=after(rows, stored))
    assert [(row.annotator, row.outcome) for row in again] == [
        ("ann", "UNCHANGED"),
        ("user:u3", "UNCHANGED"),
    ]


def test_of_several_responses_of_one_person_the_latest_is_one_vote():
    answers = [
        response("u1", None, minute=9),
        response("u1", "a", minute=1),
        response("u1", "b", minute=2),
    ]
    for order in permutations(answers):
        rows = taken(*order)
        assert [item.ranks for item in fresh(rows)] == [(2, 1)]
        assert sorted(row.outcome for row in rows) == ["DUPLICATE", "DUPLICATE", "NEW"]


def test_one_persons_responses_of_different_status_are_refused():
    rows = taken(response("u1", "a", minute=1), response("u1", "a", minute=2, status="discarded"))
    assert [(row.outcome, row.reason) for row in rows] == [
        ("DUPLICATE", ""),
        ("UNREADABLE", "STATUS_CONFLICT"),
    ]


def test_a_null_answer_is_refused_and_the_others_go_on():
    rows = taken(response("u1", None), response("u2", "b"))
    assert [(row.outcome, row.reason) for row in rows] == [("UNREADABLE", "NO_ANSWER"), ("NEW", "")]


def test_a_discard_with_null_values_is_a_discard():
    (row,) = taken(response("u1", None, status="discarded"))
    assert (row.outcome, row.fresh) == ("DISCARDED", ())


def test_an_unknown_status_is_no_vote():
    (row,) = taken(response("u1", status="pending"))
    assert (row.outcome, row.reason) == ("UNREADABLE", "UNKNOWN_STATUS")


def test_nothing_is_read_where_other_texts_or_options_were_shown():
    (row,) = taken(response("u1"), problem="other answers were shown")
    assert (row.reason, row.message) == ("OTHER_TEXT", "other answers were shown")
    (row,) = taken(response("u1"), questions=frozenset({"taste"}))
    assert row.reason == "OTHER_QUESTIONS"


def test_a_question_that_is_none_of_ours_is_left_alone():
    said = response("u1")._replace(
        values={"overall": {"value": "a"}, "liked_it": {"value": "so much"}}
    )
    assert [item.question for item in fresh(taken(said))] == ["overall"]


def test_an_answer_is_assisted_from_the_moment_of_the_suggestion_on():
    for minute, mode in ((4, "blind"), (5, "assisted"), (6, "assisted")):
        rows = taken(
            response("u1", minute=minute), suggestions=1, suggested_at=NOON + timedelta(minutes=5)
        )
        assert [item.mode for item in fresh(rows)] == [mode]


def test_a_criterion_taken_out_of_an_answer_is_taken_back_alone():
    both = frozenset({"overall", "truth"})
    said = response("u1")
    with_truth = said._replace(values={**said.values, "truth": {"value": "b"}})
    stored = after(taken(with_truth, questions=both))
    rows = taken(said, stored=stored, questions=both)
    assert [(row.outcome, len(row.fresh)) for row in rows] == [("CHANGED", 1)]
    (gone,) = fresh(rows)
    assert (gone.question, gone.status, gone.revision) == ("truth", "discarded", 1)
    assert [row.outcome for row in taken(said, stored=after(rows, stored), questions=both)] == [
        "UNCHANGED"
    ]


@pytest.mark.parametrize(
    "history",
    [
        ["a", "b", "a"],
        ["a", "draft", "a"],
        ["a", "discarded", "draft", "b"],
        ["draft", "a", "a", "tie"],
        ["discarded", "draft", "both_bad"],
    ],
)
def test_after_any_history_the_latest_judgement_is_what_the_person_said_last(history):
    stored = NOTHING_STORED
    seen: list[Judgement] = []
    for minute, step in enumerate(history):
        submitted = step not in ("draft", "discarded")
        said = response(
            "u1",
            step if submitted else "a",
            minute=minute,
            status="submitted" if submitted else step,
            name="r1",
        )
        rows = taken(said, stored=stored)
        seen += fresh(rows)
        stored = after(rows, stored)
        assert fresh(taken(said, stored=stored)) == []
    assert [item.revision for item in seen] == list(range(len(seen)))
    assert len({item.id for item in seen}) == len(seen)
    ranks = {"a": (1, 2), "b": (2, 1), "tie": (1, 1), "both_bad": (1, 1)}
    assert seen[-1].ranks == ranks[history[-1]]


def test_a_refused_change_leaves_the_stored_answer_as_it_is():
    stored = after(taken(response("u1", name="r1")))
    (row,) = taken(response("u1", "c", name="r1"), stored=stored)
    assert (row.outcome, row.reason, row.fresh) == ("UNREADABLE", "UNKNOWN_VALUE", ())

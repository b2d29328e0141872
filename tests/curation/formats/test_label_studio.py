"""Label Studio exports: submitted answers alone are votes, by whoever gave them."""

import json
from pathlib import Path
from typing import Any

import pytest

from curation.formats.vote_columns import VoteColumns
from curation.formats.votes import LabelVote, VoteFile, read_votes
from curation.votes import Vote


def pairwise(selected: str, **fields: Any) -> dict[str, Any]:
    """A result as the pairwise template writes it."""
    return {
        "id": "r1",
        "from_name": "pw",
        "to_name": "text1,text2",
        "type": "pairwise",
        "origin": "manual",
        "value": {"selected": selected},
        **fields,
    }


def choice(*labels: str, name: str = "quality") -> dict[str, Any]:
    return {
        "id": "r2",
        "from_name": name,
        "to_name": "text1",
        "type": "choices",
        "origin": "manual",
        "value": {"choices": list(labels)},
    }


def annotation(by: Any, *results: dict[str, Any], number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": number,
        "completed_by": by,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-11-25T09:00:00Z",
        "updated_at": f"2026-11-25T09:00:{number:02d}Z",
        "lead_time": 4.2,
        **fields,
    }


def task(number: int, *annotations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"text1": f"left of {number}", "text2": f"right of {number}", "key": f"k{number}"},
        "annotations": list(annotations),
        "drafts": [],
        "predictions": [],
        **fields,
    }


def read(folder: Path, tasks: list[dict[str, Any]], **told: Any) -> VoteFile:
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return read_votes(path, VoteColumns(**told))


def test_pairwise_answers_are_votes_on_the_texts(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        [
            task(
                1,
                annotation(7, pairwise("left")),
                annotation({"email": "a@b.c"}, pairwise("right")),
            ),
            task(2, annotation(7, pairwise("right"))),
        ],
    )
    assert file.votes == [
        Vote("1", "left of 1", "right of 1", "7", "left", "left"),
        Vote("1", "left of 1", "right of 1", "a@b.c", "right", "left"),
        Vote("2", "left of 2", "right of 2", "7", "right", "left"),
    ]
    assert file.columns.winner == "pw"


def test_drafts_predictions_cancelled_and_assisted_answers_are_counted_and_no_votes(
    tmp_path: Path,
) -> None:
    file = read(
        tmp_path,
        [
            task(
                1,
                annotation(1, pairwise("left")),
                annotation(2, pairwise("right"), was_cancelled=True),
                annotation(3, pairwise("right", origin="prediction")),
                annotation(4, pairwise("right", origin="prediction-changed")),
                drafts=[{"result": [pairwise("right")]}],
                predictions=[{"result": [pairwise("right")]}, {"result": []}],
            )
        ],
    )
    assert [(vote.annotator, vote.winner) for vote in file.votes] == [("1", "left")]
    assert file.left_out == {"CANCELLED": 1, "ASSISTED": 2, "DRAFT": 1, "PREDICTION": 2}


def test_the_answer_changed_last_counts(tmp_path: Path) -> None:
    late, early = annotation(1, pairwise("left"), number=9), annotation(1, pairwise("right"))
    file = read(tmp_path, [task(1, late, early)])
    assert [vote.winner for vote in file.votes] == ["left"]
    assert file.left_out == {"SUPERSEDED": 1}


def test_two_deleted_users_are_two(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        [task(1, *(annotation(None, pairwise("left"), number=number) for number in (4, 5)))],
    )
    assert [vote.annotator for vote in file.votes] == ["deleted:4", "deleted:5"]


def test_what_is_no_answer_is_rejected(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        [
            task(1, annotation(1, pairwise("left"))),
            task(2, annotation(1), annotation(2, pairwise("none"))),
            {"id": 3},
        ],
    )
    assert sorted((one.row, one.code) for one in file.rejected) == [
        ("row 2", "MISSING_VALUE"),
        ("row 2", "UNREADABLE_WINNER"),
        ("row 3", "BAD_ROW"),
    ]


def test_choices_are_labels_and_of_several_nothing_is_guessed(tmp_path: Path) -> None:
    tasks = [task(1, annotation(1, choice("good")), annotation(2, choice("good", "bad")))]
    file = read(tmp_path, tasks)
    assert file.labels == [LabelVote("1", "1", "good")]
    assert [one.code for one in file.rejected] == ["AMBIGUOUS_ANSWER"]


def test_choices_named_as_the_winner_are_votes(tmp_path: Path) -> None:
    tasks = [
        task(1, annotation(1, choice("Response A"), choice("style ok", name="style"))),
        task(2, annotation(1, choice("Tie"))),
    ]
    file = read(tmp_path, tasks, winner="quality", item=("key",))
    assert [(vote.item, vote.left, vote.winner) for vote in file.votes] == [
        ("k1", "left of 1", "left"),
        ("k2", "left of 2", "tie"),
    ]
    assert file.left_out == {"OTHER_QUESTION": 1}


@pytest.mark.parametrize(
    ("results", "told", "message"),
    [
        ([choice("a"), choice("b", name="style")], {}, "several controls.*quality, style"),
        ([pairwise("left")], {"winner": "pw2"}, "no answers to 'pw2'; it has pw"),
        ([], {}, "without a submitted answer"),
    ],
)
def test_an_export_that_does_not_say_what_counts_is_refused(
    tmp_path: Path, results: list[dict[str, Any]], told: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, [task(1, annotation(1, *results))], **told)


def test_sides_that_the_task_does_not_hold_are_left_and_right(tmp_path: Path) -> None:
    one = task(1, annotation(1, pairwise("right")), data={"question": "q"})
    assert read(tmp_path, [one]).votes == [Vote("1", "left", "right", "1", "right", "left")]


def test_tasks_without_an_id_are_not_one_task(tmp_path: Path) -> None:
    bare = [task(1, annotation(1, pairwise("left"))), task(2, annotation(1, pairwise("right")))]
    for one in bare:
        del one["id"]
    file = read(tmp_path, bare)
    assert [(vote.item, vote.winner) for vote in file.votes] == [
        ("row 1", "left"),
        ("row 2", "right"),
    ]


def test_what_is_answered_instead_of_a_comparison_is_named(tmp_path: Path) -> None:
    stars = {"from_name": "stars", "type": "rating", "value": {"rating": 4}}
    with pytest.raises(ValueError, match="pairwise comparison or choice; it holds rating"):
        read(tmp_path, [task(1, annotation(1, stars))])

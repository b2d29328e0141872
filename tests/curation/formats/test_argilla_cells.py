"""Argilla's own exports: only what people submitted is a vote."""

import json
from pathlib import Path
from typing import Any

import pytest

from curation.formats.vote_columns import VoteColumns
from curation.formats.votes import LabelVote, VoteFile, read_votes

VALUES, USERS = ["good", "bad", "bad"], ["u1", "u2", "u3"]
STATUSES = ["submitted", "draft", "discarded"]
APART = {"p.responses": VALUES, "p.responses.users": USERS, "p.responses.status": STATUSES}
TOGETHER = [
    {"value": value, "user_id": user, "status": status}
    for value, user, status in zip(VALUES, USERS, STATUSES, strict=True)
]
IN_LISTS = {"value": VALUES, "user_id": USERS, "status": STATUSES}


def read(folder: Path, rows: list[dict[str, Any]], votes: str) -> VoteFile:
    path = folder / "export.jsonl"
    path.write_text("\n".join(json.dumps({"id": n, **row}) for n, row in enumerate(rows)))
    return read_votes(path, VoteColumns(votes=votes))


@pytest.mark.parametrize(
    ("row", "votes"), [(APART, "p.responses"), ({"p": TOGETHER}, "p"), ({"p": IN_LISTS}, "p")]
)
def test_drafts_and_discarded_answers_are_counted_and_no_votes(
    tmp_path: Path, row: dict[str, Any], votes: str
) -> None:
    file = read(tmp_path, [row], votes)
    assert file.labels == [LabelVote("0", "u1", "good")]
    assert (file.left_out, file.rejected) == ({"DRAFT": 1, "DISCARDED": 1}, [])
    assert not file.anonymous


def test_two_deleted_users_are_two_and_the_others_keep_their_names(tmp_path: Path) -> None:
    given = [
        {"value": "good", "user_id": user, "status": "submitted"} for user in (None, None, "u1")
    ]
    file = read(tmp_path, [{"p": given}], "p")
    assert [vote.annotator for vote in file.labels] == [
        "deleted:line 1, 1",
        "deleted:line 1, 2",
        "u1",
    ]
    assert not file.anonymous


def test_a_record_without_answers_has_none(tmp_path: Path) -> None:
    file = read(tmp_path, [dict.fromkeys(APART), APART], "p.responses")
    assert [vote.item for vote in file.labels] == ["1"]
    assert file.rejected == []


@pytest.mark.parametrize("statuses", [["submitted"], "submitted", ["submitted", "lost", "draft"]])
def test_a_status_that_cannot_be_told_refuses_the_row(tmp_path: Path, statuses: Any) -> None:
    file = read(tmp_path, [{**APART, "p.responses.status": statuses}, APART], "p.responses")
    assert [(one.row, one.code) for one in file.rejected] == [("line 1", "BAD_ROW")]
    assert [vote.item for vote in file.labels] == ["1"]

"""Votes out of CSV, JSONL, Parquet, wide and nested files; nothing unclear becomes a vote."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.formats.json_values import RowError
from curation.formats.vote_columns import VoteColumns
from curation.formats.votes import LabelVote, VoteFile, read_votes
from curation.formats.winners import Answer, WinnerReader
from curation.votes import Vote

DATA = Path(__file__).parents[3].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")

ROWS: list[dict[str, Any]] = [
    {"item": "q1", "left": "x", "right": "y", "annotator": "ann", "winner": "left"},
    {"item": "q1", "left": "x", "right": "y", "annotator": "ben", "winner": "tie"},
    {"item": "q2", "left": "x", "right": "z", "annotator": "ann", "winner": "right"},
]


def write(folder: Path, rows: list[dict[str, Any]], name: str = "votes.jsonl") -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        with open(path, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def read(folder: Path, rows: list[dict[str, Any]], **told: Any) -> VoteFile:
    return read_votes(write(folder, rows), VoteColumns(**told))


def winners(file: VoteFile) -> list[str]:
    return [vote.winner for vote in file.votes]


def codes(file: VoteFile) -> list[tuple[str, str]]:
    return [(one.row, one.code) for one in file.rejected]


@pytest.mark.parametrize("name", ["votes.csv", "votes.jsonl", "votes.parquet"])
def test_every_kind_of_file_gives_the_same_votes(tmp_path: Path, name: str) -> None:
    file = read_votes(write(tmp_path, ROWS, name))
    assert file.votes == [
        Vote("q1", "x", "y", "ann", "left", "left"),
        Vote("q1", "x", "y", "ben", "tie", "left"),
        Vote("q2", "x", "z", "ann", "right", "left"),
    ]
    assert (file.rows, file.rejected, file.left_out, file.anonymous) == (3, [], {}, False)


def test_columns_are_named_by_options(tmp_path: Path) -> None:
    row = {"q": "q1", "one": "x", "two": "y", "who": 7, "best": "two", "winner": "left"}
    file = read(
        tmp_path, [row], item=("q",), left="one", right="two", annotator="who", winner="best"
    )
    assert file.votes == [Vote("q1", "x", "y", "7", "right", "left")]


def test_several_columns_name_an_item_together(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "turn": turn} for turn in (1, 2)]
    file = read(tmp_path, rows, item=("item", "turn"))
    assert [vote.item for vote in file.votes] == ['["q1","1"]', '["q1","2"]']


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"winner": "best"}, "no column 'best'; its columns: item, left, right, annotator, winner"),
        ({"left": "left"}, "only one of --left and --right"),
        ({"winner": "winner", "label": "item"}, "--winner and --label each say where"),
        ({"label": "winner", "left": "left", "right": "right"}, "without two sides"),
        ({"annotators": ("winner",), "annotator": "annotator"}, "expected one of the two"),
        ({"label": "winner", "values": {"1": "left"}}, "holds labels, and --values"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, told: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, ROWS, **told)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"q": "1", "left": "x", "right": "y", "best": "x"}, "--winner.*q, left, right, best"),
        ({"who": "ann", "label": "good"}, "--item; its columns: who, label"),
    ],
)
def test_a_file_that_does_not_say_where_its_votes_are_is_refused_with_its_columns(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, [row])


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "votes.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no rows"):
        read_votes(tmp_path / "votes.jsonl")


# ---- winners


def meaning(cell: Any, *others: Any, left: str = "x", right: str = "y") -> Answer:
    reader = WinnerReader([cell, *others], left_column="response1", right_column="response2")
    return reader.read(cell, left, right)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["left", "Left", " LEFT ", "a", "A", "model_a", "response_1", "Response A", "x"], "left"),
        (["right", "b", "B", "model_b", "response2", "answer 2", "B is better", "y"], "right"),
        (["tie", "Tie", "equal", "draw", "both", "neither", "both_bad", "tie (bothbad)"], "tie"),
    ],
)
def test_winners_are_read_in_the_words_that_files_have(cells: list[str], expected: str) -> None:
    assert {meaning(cell).winner for cell in cells} == {expected}


def test_both_bad_is_a_tie_that_stays_marked() -> None:
    assert meaning("both_bad") == Answer("tie", both_bad=True)
    assert meaning("tie (bothbad)") == Answer("tie", both_bad=True)
    assert meaning("tie") == Answer("tie")


def test_numbers_are_read_only_where_a_two_shows_what_they_mean() -> None:
    assert [meaning(code, 0, 1, 2).winner for code in (1, 2, 0)] == ["left", "right", "tie"]
    assert meaning("1.0", "2.0").winner == "left"
    for others in ([0, 1], [1], [-1, 0, 1, 2], [1, 2, 3]):
        with pytest.raises(RowError) as caught:
            meaning(1, *others)
        assert caught.value.code == "UNREADABLE_WINNER"


@pytest.mark.parametrize("cell", ["maybe", "", "leftish", "none", True, ["left"], {"left": 1}])
def test_an_unreadable_winner_is_never_guessed(cell: Any) -> None:
    with pytest.raises(RowError) as caught:
        meaning(cell)
    assert caught.value.code == "UNREADABLE_WINNER"


def test_a_word_that_also_names_the_other_side_is_ambiguous() -> None:
    with pytest.raises(RowError) as caught:
        meaning("A", left="B", right="A")
    assert caught.value.code == "AMBIGUOUS_WINNER"
    assert meaning("A", left="A", right="B") == Answer("left")
    # Ids that are numbers: 2 may be the thing called 2, or the second.
    with pytest.raises(RowError, match="may mean left or right"):
        meaning("2", "1", left="2", right="1")


def test_values_say_what_a_files_words_mean(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "annotator": str(k), "winner": k} for k in (1, 0, -1)]
    file = read(tmp_path, rows, values={"1": "left", "-1": "right"})
    assert winners(file) == ["left", "right"]
    assert codes(file) == [("line 2", "UNREADABLE_WINNER")]


@given(st.sampled_from(["left", "right", "tie", "a", "b", "x", "y", "model_a", "both_bad"]))
def test_swapping_the_sides_themselves_swaps_only_what_names_a_side(word: str) -> None:
    named = {"x": "left", "y": "right"}
    turned = meaning(word, left="y", right="x").winner
    other = {"left": "right", "right": "left"}
    assert turned == (other[named[word]] if word in named else meaning(word).winner)


# ---- what is not a vote


def test_rows_that_cannot_be_read_are_rejected_by_line_and_the_rest_is_kept(tmp_path: Path) -> None:
    rows = [
        ROWS[0],
        {**ROWS[0], "annotator": "b", "winner": "don't know"},
        {**ROWS[0], "annotator": "c", "winner": None},
        {**ROWS[0], "annotator": None},
        {**ROWS[0], "annotator": "d", "right": "x"},
        {**ROWS[0], "annotator": "e", "left": None},
    ]
    file = read(tmp_path, rows)
    assert len(file.votes) == 1
    assert sorted(codes(file)) == [
        ("line 2", "UNREADABLE_WINNER"),
        ("line 3", "MISSING_VALUE"),
        ("line 4", "MISSING_VALUE"),
        ("line 5", "SAME_SIDES"),
        ("line 6", "MISSING_VALUE"),
    ]
    assert file.rows == 6


def test_a_torn_csv_row_is_rejected(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS, "votes.csv")
    path.write_text(path.read_text() + "q3,x\n")
    assert codes(read_votes(path)) == [("row 4", "BAD_ROW")]


def test_a_repeat_takes_the_place_of_the_earlier_vote_and_is_counted(tmp_path: Path) -> None:
    turned = {"item": "q1", "left": "y", "right": "x", "annotator": "ann", "winner": "left"}
    file = read(tmp_path, [*ROWS, turned])
    assert file.left_out == {"SUPERSEDED": 1}
    first = [vote for vote in file.votes if vote.item == "q1" and vote.annotator == "ann"]
    assert [(vote.left, vote.winner) for vote in first] == [("x", "right")]
    kept = read_votes(tmp_path / "votes.jsonl", repeats="keep")
    assert len(kept.votes) == 4


def test_a_pair_shown_both_ways_round_is_compared_one_way_round(tmp_path: Path) -> None:
    rows = [
        {"item": "q", "left": "y", "right": "x", "annotator": "ann", "winner": "left"},
        {"item": "q", "left": "x", "right": "y", "annotator": "ben", "winner": "right"},
        {"item": "r", "left": "y", "right": "x", "annotator": "ann", "winner": "left"},
    ]
    assert read(tmp_path, rows).votes == [
        Vote("q", "x", "y", "ann", "right", "right"),
        Vote("q", "x", "y", "ben", "right", "left"),
        # Always this way round: its sides may have a meaning.
        Vote("r", "y", "x", "ann", "left", "left"),
    ]


@given(st.lists(st.booleans(), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_the_way_a_pair_is_written_changes_no_winner(
    tmp_path_factory: pytest.TempPathFactory, turned: list[bool], rng: random.Random
) -> None:
    rows = []
    for number, turn in enumerate(turned):
        best, sides = rng.choice("xy"), ("y", "x") if turn else ("x", "y")
        row = {"item": "q", "left": sides[0], "right": sides[1], "annotator": f"{number}-{best}"}
        rows.append({**row, "winner": "left" if sides[0] == best else "right"})
    file = read(tmp_path_factory.mktemp("votes"), rows)
    assert len({vote.pair for vote in file.votes}) == 1
    for vote in file.votes:
        best = vote.left if vote.winner == "left" else vote.right
        assert best == vote.annotator[-1]


def test_who_is_not_named_is_nobody_else(tmp_path: Path) -> None:
    rows = [{"left": "pizza", "right": "sushi", "winner": "left"}] * 3
    file = read(tmp_path, rows)
    assert file.anonymous
    assert len({vote.annotator for vote in file.votes}) == 3
    assert {vote.item for vote in file.votes} == {"all"}


# ---- wide and nested files, labels


def test_a_wide_file_has_one_column_an_annotator_and_empty_cells_are_counted(
    tmp_path: Path,
) -> None:
    rows = [
        {"response1": "x", "response2": "y", "annotator1": 1, "annotator2": 2},
        {"response1": "x", "response2": "y", "annotator1": 0, "annotator2": None},
    ]
    file = read(tmp_path, rows)
    assert [(vote.item, vote.annotator, vote.winner) for vote in file.votes] == [
        ("line 1", "annotator1", "left"),
        ("line 1", "annotator2", "right"),
        ("line 2", "annotator1", "tie"),
    ]
    assert file.left_out == {"ABSENT": 1}


@pytest.mark.parametrize(
    "votes",
    [
        {"ann": "a1", "ben": "equal"},
        [["ann", "a1"], ["ben", "equal"]],
        '{"ann": "a1", "ben": "equal"}',
    ],
)
def test_all_votes_of_an_item_may_stand_in_one_cell(tmp_path: Path, votes: Any) -> None:
    name = "votes.csv" if isinstance(votes, str) else "votes.jsonl"
    path = write(tmp_path, [{"pair": "p", "a1": "x", "a2": "y", "votes": votes}], name)
    assert read_votes(path).votes == [
        Vote("p", "x", "y", "ann", "left"),
        Vote("p", "x", "y", "ben", "tie"),
    ]


def test_letters_in_a_cell_are_labels_of_nobody_knows_whom(tmp_path: Path) -> None:
    file = read(tmp_path, [{"id": 1, "votes": "NYN"}])
    assert file.anonymous
    assert [vote.label for vote in file.labels] == ["N", "Y", "N"]
    assert codes(read(tmp_path, [{"id": 1, "votes": 5}])) == [("line 1", "BAD_ROW")]


def test_labels_need_no_sides_and_an_annotator_may_judge_twice(tmp_path: Path) -> None:
    rows = [{"item": "q", "annotator": "ann", "label": label} for label in (1, 2.0, [3])]
    file = read(tmp_path, rows)
    assert file.labels == [LabelVote("q", "ann", "1"), LabelVote("q", "ann", "2")]
    assert codes(file) == [("line 3", "UNREADABLE_LABEL")]
    latest = read_votes(tmp_path / "votes.jsonl", repeats="latest")
    assert (latest.labels, latest.left_out) == ([LabelVote("q", "ann", "2")], {"SUPERSEDED": 1})


def test_a_column_that_some_rows_lack_does_not_name_the_items(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"item": None, "left": "x", "right": "y", "winner": "left"},
        {"item": "total"},
    ]
    file = read(tmp_path, rows)
    assert [vote.item for vote in file.votes] == ["all"]
    assert codes(file) == [("line 2", "MISSING_VALUE")]


def test_a_row_without_its_item_is_refused_and_the_others_keep_theirs(tmp_path: Path) -> None:
    # Taken for votes on one item, the three would be repeats of each other.
    named = [
        {"item": item, "left": "m1", "right": "m2", "annotator": "ann", "winner": winner}
        for item, winner in ((1, "left"), (2, "right"), (3, "left"))
    ]
    file = read(tmp_path, [*named, {**named[0], "item": None}])
    assert [(vote.item, vote.winner) for vote in file.votes] == [
        *(("1", "left"), ("2", "right"), ("3", "left"))
    ]
    assert codes(file) == [("line 4", "MISSING_VALUE")]
    assert file.left_out == {}


@pytest.mark.parametrize("column", ["item", "left", "annotator"])
@pytest.mark.parametrize(("text", "code"), [("\ud83d", "BAD_UNICODE"), ("a\0", "NUL_CHARACTER")])
def test_a_name_that_no_report_can_hold_is_refused(
    tmp_path: Path, column: str, text: str, code: str
) -> None:
    row = {"item": "q", "left": "x", "right": "y", "annotator": "ann", "winner": "left"}
    file = read(tmp_path, [{**row, column: text}, row])
    assert codes(file) == [("line 1", code)]
    assert [vote.left for vote in file.votes] == ["x"]


def test_a_label_that_no_report_can_hold_is_refused(tmp_path: Path) -> None:
    rows = [{"item": "q", "annotator": who, "label": text} for who, text in (("a", "\ud83d"), "bn")]
    file = read(tmp_path, rows)
    assert codes(file) == [("line 1", "BAD_UNICODE")]
    assert [vote.label for vote in file.labels] == ["n"]


# ---- real files


@needs_data
@pytest.mark.parametrize(
    ("name", "votes", "labels", "rejected"),
    [
        ("pandalm_human3", 2997, 0, 0),
        ("llmfao_votes", 4866, 0, 0),
        ("ukpconvarg1_votes", 21700, 0, 0),
        ("dices990", 0, 72103, 0),
        ("xstest_two_annotators", 0, 1800, 0),
        ("dawid_skene_1979", 0, 315, 0),
        ("food_pairwise", 30, 0, 35),
    ],
)
def test_public_vote_files_are_read_without_options(
    name: str, votes: int, labels: int, rejected: int
) -> None:
    file = read_votes(DATA / f"{name}.jsonl")
    assert (len(file.votes), len(file.labels), len(file.rejected)) == (votes, labels, rejected)
    assert not file.left_out


@needs_data
def test_the_food_winners_are_those_in_the_file() -> None:
    rows = [json.loads(line) for line in (DATA / "food_pairwise.jsonl").read_text().splitlines()]
    given = [(row["left"], row["right"], row["winner"]) for row in rows if row["kind"] == "vote"]
    best = [{"left": left, "right": right, "tie": "tie"}[winner] for left, right, winner in given]
    file = read_votes(DATA / "food_pairwise.jsonl")
    assert [
        {"left": vote.left, "right": vote.right, "tie": "tie"}[vote.winner] for vote in file.votes
    ] == best


@needs_data
def test_judges_are_read_from_the_column_that_is_named() -> None:
    file = read_votes(DATA / "llmbar_judge_votes.jsonl", VoteColumns(votes="judges"))
    assert len(file.labels) == 192 * 32 * 2
    assert len({vote.annotator for vote in file.labels}) == 32


# ---- what other programs write


@pytest.mark.parametrize("name", ["votes.csv", "votes.jsonl"])
def test_what_tables_with_gaps_write_for_nothing_is_no_label(tmp_path: Path, name: str) -> None:
    rows = [
        {"item": "q", "annotator": "ann", "label": "1"},
        {"item": "q", "annotator": "ben", "label": "nan"},
        {"item": "q", "annotator": "cem", "label": "<NA>"},
    ]
    file = read_votes(write(tmp_path, rows, name))
    assert [vote.label for vote in file.labels] == ["1"]
    assert [code for _, code in codes(file)] == ["MISSING_VALUE"] * 2


def test_a_number_is_one_label_however_many_places_it_is_written_with(tmp_path: Path) -> None:
    rows = [{"item": 1, "annotator1": "0.50", "annotator2": "4.00", "annotator3": "100"}]
    labels = read_votes(write(tmp_path, rows, "votes.csv")).labels
    assert [vote.label for vote in labels] == ["0.5", "4", "100"]


@pytest.mark.parametrize("cell", ["left", "tie", "A,B,A", "A B", "['A', 'B']"])
def test_a_word_or_a_listing_is_no_string_of_letters(tmp_path: Path, cell: str) -> None:
    file = read(tmp_path, [{"id": 1, "votes": cell}, {"id": 2, "votes": "AB"}])
    assert [vote.label for vote in file.labels] == ["A", "B"]
    assert codes(file) == [("line 1", "BAD_ROW")]


def test_answers_by_annotator_may_be_a_parquet_map(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.string())
    votes = pa.array([[("ann", "left"), ("ben", "tie")]], kind)
    pq.write_table(
        pa.table({"id": [1], "left": ["x"], "right": ["y"], "votes": votes}), tmp_path / "v.parquet"
    )
    assert [(vote.annotator, vote.winner) for vote in read_votes(tmp_path / "v.parquet").votes] == [
        ("ann", "left"),
        ("ben", "tie"),
    ]


def test_drafts_and_discarded_answers_of_a_table_are_no_votes(tmp_path: Path) -> None:
    said = [("ann", "left", "submitted"), ("ben", "right", "Discarded"), ("cem", None, "draft")]
    rows = [
        {**ROWS[0], "annotator": name, "winner": winner, "status": status}
        for name, winner, status in said
    ]
    file = read(tmp_path, rows)
    assert [(vote.annotator, vote.winner) for vote in file.votes] == [("ann", "left")]
    assert (file.left_out, file.rejected) == ({"DISCARDED": 1, "DRAFT": 1}, [])
    labels = read(tmp_path, rows, item=("item",), annotator="annotator", label="status").labels
    assert [vote.label for vote in labels] == ["submitted", "Discarded", "draft"]


def test_votes_without_an_item_are_not_repeats_of_each_other(tmp_path: Path) -> None:
    battles = [
        {"model_a": "m", "model_b": "n", "judge": "j", "winner": winner}
        for winner in ("model_a", "model_a", "model_b")
    ]
    file = read(tmp_path, battles)
    assert (winners(file), file.left_out) == (["left", "left", "right"], {})


@pytest.mark.parametrize(
    ("column", "late", "early"),
    [
        ("updated_at", "2026-02-01T00:00:00Z", "2026-01-01T00:00:00"),
        ("timestamp", 1_800_000_000, 1_700_000_000.5),
        ("created_at", "900", "99"),
    ],
)
def test_the_latest_answer_by_its_time_counts_wherever_it_stands(
    tmp_path: Path, column: str, late: Any, early: Any
) -> None:
    rows = [
        {**ROWS[0], "winner": "left", column: late},
        {**ROWS[0], "winner": "right", column: early},
    ]
    for shown in (rows, rows[::-1]):
        file = read(tmp_path, shown)
        assert (winners(file), file.left_out) == (["left"], {"SUPERSEDED": 1})


def test_where_one_time_is_missing_the_order_of_the_file_holds(tmp_path: Path) -> None:
    rows = [
        {**ROWS[0], "winner": "left", "updated_at": "2026-02-01"},
        {**ROWS[0], "winner": "right", "updated_at": None},
    ]
    assert winners(read(tmp_path, rows)) == ["right"]

"""`aggregate` and `agreement` on a file: nobody is made up, and no vote at all is no success."""

import json
from pathlib import Path

import pytest

from tests.pairwright.conftest import Command

ANONYMOUS_LABELS = "item,label\n1,yes\n1,no\n2,yes\n2,yes\n"
ANONYMOUS_VOTES = "item,left,right,winner\n1,x,y,left\n1,x,y,left\n2,x,z,right\n"
NAMED_LABELS = "item,annotator,label\n1,ann,yes\n1,bob,no\n2,ann,yes\n2,bob,yes\n"
COMMANDS = ("aggregate", "agreement")


def written(folder: Path, text: str) -> Path:
    file = folder / "votes.csv"
    file.write_text(text)
    return file


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("text", [ANONYMOUS_LABELS, ANONYMOUS_VOTES])
def test_where_nobody_is_named_nobody_is_told_of(
    tmp_path: Path, pairwright: Command, command: str, text: str
) -> None:
    file = written(tmp_path, text)
    shown, data = pairwright(command, file), pairwright(command, file, "--json")
    assert (shown.code, data.code) == (0, 0), shown.err
    assert "voter" not in shown.out + data.out
    assert "reliability" not in shown.out
    assert not json.loads(data.out)["annotators"]


def test_named_annotators_of_labels_are_told_of(tmp_path: Path, pairwright: Command) -> None:
    file = written(tmp_path, NAMED_LABELS)
    assert "ann" in pairwright("aggregate", file).out
    data = json.loads(pairwright("aggregate", file, "--json").out)
    assert data["annotators"].keys() == {"ann", "bob"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_none_of_whose_votes_is_understood_fails_after_it_is_told(
    tmp_path: Path, pairwright: Command, command: str
) -> None:
    file = written(tmp_path, ANONYMOUS_VOTES)
    outcome = pairwright(command, file, "--values", "left=1,right=2", "--json")
    assert outcome.code == 1
    rows = json.loads(outcome.out)["rejected" if command == "aggregate" else "rejected_rows"]
    assert [row["code"] for row in rows] == ["UNREADABLE_WINNER"] * 3
    (line,) = outcome.err.splitlines()
    assert "holds no vote that counts (3 UNREADABLE_WINNER" in line
    assert "--values" in line


def test_a_method_that_weighs_pairs_fails_alike_without_votes(
    tmp_path: Path, pairwright: Command
) -> None:
    file = written(tmp_path, ANONYMOUS_VOTES)
    wrong = ["--values", "left=1,right=2"]
    outcome = pairwright("aggregate", file, "--method", "bradley-terry", *wrong)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_is_refused_in_one_sentence(
    tmp_path: Path, pairwright: Command, command: str
) -> None:
    written(tmp_path, ANONYMOUS_VOTES)
    outcome = pairwright(command, tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"pairwright: '{tmp_path}' is a folder; expected a CSV, JSONL, JSON or Parquet file\n"
    )


def test_gold_of_a_wide_file_is_held_against_the_rows_it_stands_in(
    tmp_path: Path, pairwright: Command
) -> None:
    votes = "left,right,rater_1,rater_2,truth\nm,n,left,left,left\nm,n,right,right,left\n"
    labels = "rater_1,rater_2,truth\ncat,cat,cat\ndog,dog,cat\n"
    for text in (votes, labels):
        outcome = pairwright("aggregate", written(tmp_path, text), "--gold", "truth", "--json")
        assert outcome.code == 0, outcome.err
        methods = json.loads(outcome.out)["methods_against_gold"]
        assert {(row["right"], row["pairs"]) for row in methods} == {(1, 2)}


def test_a_gold_column_that_cannot_be_read_says_why(tmp_path: Path, pairwright: Command) -> None:
    text = "item,left,right,winner,truth\nq,x,y,left,1\n"
    outcome = pairwright("aggregate", written(tmp_path, text), "--gold", "truth")
    assert outcome.code == 2
    assert "'truth' holds no answer that can be read (row 1: the winner is '1'" in outcome.err


def test_a_table_of_many_labels_is_short(tmp_path: Path, pairwright: Command) -> None:
    rows = "".join(f"{n},ann,label {n}\n" for n in range(30))
    shown = pairwright("aggregate", written(tmp_path, f"item,annotator,label\n{rows}")).out
    assert "label 10" in shown
    assert "and 10 labels more (--json has all)" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_in_brackets_is_shown_as_it_is(
    tmp_path: Path, pairwright: Command, command: str
) -> None:
    rows = "q,[/b],[/INST]\nq,[red]ben,[/INST]\n"
    shown = pairwright(command, written(tmp_path, f"item,annotator,label\n{rows}"))
    assert shown.code == 0, shown.err
    assert "[/INST]" in shown.out
    assert "[/b]" in shown.out
    assert "[red]ben" in shown.out

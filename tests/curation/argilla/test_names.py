"""Titles become names that a server takes, or are refused before anything is sent."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.argilla.names import check_account_names, dataset_name, question_names


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("My Prefs v1", "my-prefs-v1"),
        ("DS_NAME", "ds_name"),
        ("ok-name_1", "ok-name_1"),
        ("Präferenzen (Süd)", "praferenzen-sud"),
        ("../../etc/passwd", "etc-passwd"),
        ("a\x00b", "a-b"),
        ("prefs \U0001f525", "prefs"),
    ],
)
def test_a_title_becomes_a_name_in_lower_case(title: str, name: str) -> None:
    assert dataset_name(title) == name


def test_a_title_without_latin_letters_is_named_by_its_hash() -> None:
    first, second = dataset_name("ترجیح"), dataset_name("好み")
    assert re.fullmatch(r"dataset-[0-9a-f]{8}", first)
    assert first != second


def test_titles_that_differ_only_in_other_letters_are_two_datasets() -> None:
    first, second = dataset_name("标注 v1"), dataset_name("偏好 v1")
    assert re.fullmatch(r"v1-[0-9a-f]{8}", first)
    assert first != second
    assert len(question_names(("安全性 A", "帮助性 A"))) == 2


@pytest.mark.parametrize("title", ["-x", "", "   ", "x" * 101])
def test_a_title_like_an_option_or_too_long_or_empty_is_refused(title: str) -> None:
    with pytest.raises(ValueError, match="dataset '"):
        dataset_name(title)


def test_a_ranking_and_a_follow_up_have_names_of_their_own() -> None:
    assert dataset_name("Tone", ranked=4) == "tone-rank-4"
    assert dataset_name("Tone", suffix="next-1") == "tone-next-1"


@given(st.text(min_size=1, max_size=60))
def test_a_name_is_plain_or_the_title_is_refused(title: str) -> None:
    try:
        name = dataset_name(title)
    except ValueError:
        return
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name)


def test_criteria_are_named_like_variables() -> None:
    assert question_names(("Help fulness", "harm")) == {
        "help_fulness": "Help fulness",
        "harm": "harm",
    }


@pytest.mark.parametrize("criteria", [("Overall",), ("reason",), ("Tone!", "tone")])
def test_criteria_with_one_name_or_one_of_ours_are_refused(criteria: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="name"):
        question_names(criteria)


def test_every_bad_account_name_is_in_one_error() -> None:
    with pytest.raises(ValueError, match=r"'a/b', 'user:1'"):
        check_account_names(["ann", "user:1", "a/b"], what="annotator")


@pytest.mark.parametrize(
    "name", ["", " ann", "../ann", "a\\b", "deleted:x", "-x", "a\nb", "x" * 101]
)
def test_a_name_that_could_be_a_path_or_stands_for_somebody_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="annotator"):
        check_account_names([name], what="annotator")


def test_an_address_or_a_name_with_a_space_is_an_account_name() -> None:
    check_account_names(["ann@example.org", "Ann Lee", "شهره"], what="annotator")

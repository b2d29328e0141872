import pytest

from curation.diversity import distinct


def test_distinct_is_the_share_of_n_grams_that_differ() -> None:
    # a b, b a, a b | a b: two of four pairs differ; a, b of six single ones.
    answers = ["abab", "ab"]
    assert distinct(answers, 2) == pytest.approx(2 / 4)
    assert distinct(answers, 1) == pytest.approx(2 / 6)


def test_answers_that_share_no_pair_are_wholly_distinct() -> None:
    assert distinct(["abc", "cba"], 2) == 1.0


def test_answers_without_a_pair_have_no_distinct_2() -> None:
    assert distinct(["a", ""], 2) is None
    assert distinct([], 2) is None

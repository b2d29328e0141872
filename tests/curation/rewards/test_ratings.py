import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.rewards.ratings import parse_rating


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Overall Score: 1", 1.0),
        ("Overall Score: 10", 10.0),
        ("Overall Score: 1/10", 1.0),
        ("Overall Score: 7.5", 7.5),
        ("**Score:** 7", 7.0),
        ("I rate it 8 out of 10.", 8.0),
        ('{"rating": 6, "reasons": 3}', 6.0),
        ("Helpfulness score: 3. Style score: 9.\nOverall score: 4.", 4.0),
        ("Two of 3 facts are right.\nRating: [[5]]", 5.0),
        ("Two of 3 facts are right: [[5]]", 5.0),
        ("9", 9.0),
    ],
)
def test_a_rating_is_read_as_it_stands(text: str, rating: float) -> None:
    value = parse_rating(text, scale=(1, 10))
    assert value == rating
    assert type(value) is float


@pytest.mark.parametrize("text", ["Overall Score: 11", "Score: 0", "Score: -3", "0.5"])
def test_a_rating_off_the_scale_is_refused_and_never_rescaled(text: str) -> None:
    with pytest.raises(ValueError, match="expected one rating from 1 to 10"):
        parse_rating(text, scale=(1, 10))


@pytest.mark.parametrize(
    "text",
    [
        "Score: 4/5",
        "3 out of 5",
        "80/100",
        "Score: 3 (out of 5)",
        "Score: 3 of 5",
        "4 stars out of 5",
    ],
)
def test_a_rating_out_of_another_top_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not rescaled"):
        parse_rating(text, scale=(1, 10))


@pytest.mark.parametrize(
    "text",
    [
        *("", "good", "Score: high", "Score: 8-9", "Score: 3. Score: 9.", "3 or 4", "80%", "7,5"),
        *("1e1", "Score: 6 or 7", "Score: 6 to 7"),
    ],
)
def test_no_rating_or_several_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"found .*; expected one rating"):
        parse_rating(text, scale=(1, 10))


def test_a_scale_is_from_low_to_high() -> None:
    with pytest.raises(ValueError, match="scale is 10 to 1"):
        parse_rating("Score: 3", scale=(10, 1))


@given(st.integers(-50, 50), st.integers(0, 9))
def test_every_rating_on_the_scale_is_read_back(whole: int, tenth: int) -> None:
    text = f"{whole}.{tenth}"
    assert parse_rating(f"Overall score: {text}", scale=(-51, 51)) == float(text)

"""Whether a reader sees anything of a text, and what surrounds what he sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.formats.visible import is_visible, without_unseen_ends

UNSEEN = (
    *("", " ", "\n\t\r", "\u00a0", "\u3000", "\u2028", "\x08", "\u00ad"),
    *("\u200b", "\u200c", "\u200d", "\u200e", "\u2060", "\ufeff", "\u180e", "\u202e", "\U000e0041"),
    *("\u115f", "\u1160", "\u3164", "\uffa0", "\u2800"),
)
BARE_MARKS = ("\u0301", "\u034f", "\ufe0f", "\u17b4", "\u20dd")


@pytest.mark.parametrize("text", [*UNSEEN, *BARE_MARKS, " \u200b\ufe0f\n"])
def test_nothing_is_seen_of_spaces_signs_without_width_and_marks_on_nothing(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("text", [".", "-", "7", "한", "👍\ufe0f", "e\u0301", "\u200bא", "\ufffd"])
def test_one_sign_that_shows_is_seen(text: str) -> None:
    assert is_visible(text)


@given(st.text(st.sampled_from("".join(UNSEEN))), st.text(st.sampled_from("".join(UNSEEN))))
def test_only_the_ends_lose_what_is_unseen(before: str, after: str) -> None:
    assert without_unseen_ends(f"{before}a \u200b b{after}") == "a \u200b b"


def test_an_accent_at_the_end_stays() -> None:
    assert without_unseen_ends(" e\u0301 ") == "e\u0301"
    assert without_unseen_ends(" \u200b ") == ""

"""Numbers and texts as a reader sees them."""

import pytest

from pairwright.written import literal, number, share, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.304, "+0.30"), (-0.3, "−0.30"), (0.0, "0.00"), (-0.001, "0.00"), (None, "–")],
)
def test_signed_shows_a_sign_unless_it_rounds_to_zero(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_number_and_share_show_a_dash_for_nothing() -> None:
    assert (number(-1234.5, 1), number(None)) == ("−1,234.5", "–")
    assert (share(0.256), share(None)) == ("26%", "–")


def test_literal_shows_what_cannot_be_seen_and_keeps_what_scripts_need() -> None:
    assert literal("a\x00b\x1b\x7f") == "a␀b␛␡"
    assert literal("abc\u202ecba\ufeff\ud800") == "abc⟨U+202E⟩cba⟨U+FEFF⟩⟨U+D800⟩"
    for plain in ("two\nlines\tand a tab", "👩\u200d👧 می\u200cخواهم שלום"):
        assert literal(plain) == plain

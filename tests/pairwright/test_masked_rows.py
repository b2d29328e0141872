"""The trained tokens of a row, as they stand on a terminal."""

from rich.style import Style

from dpo.conversations import MaskedRow, Segment
from pairwright.masked_rows import render_masked_rows


def test_what_is_trained_stands_out_with_colour_and_without() -> None:
    segments = [Segment("user\nhi\n", False), Segment("yo<end>", True)]
    text = render_masked_rows([MaskedRow("s-1", segments, tokens=9, trained=3, truncated=True)])
    assert text.plain.startswith(
        "s-1: 3 of 9 tokens are trained, cut at the length limit\nuser\nhi\n⟦yo<end>⟧\n"
    )
    (trained,) = (span for span in text.spans if span.style in ("green", Style(color="green")))
    assert text.plain[trained.start : trained.end] == "⟦yo<end>⟧"

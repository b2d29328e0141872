"""The rows of fine-tuning on a terminal: which tokens are trained on."""

from collections.abc import Iterable

from rich.text import Text

from dpo.conversations import MaskedRow


def render_masked_rows(rows: Iterable[MaskedRow]) -> Text:
    """The rows' text, what is trained on in green and, for want of colour, between ⟦ and ⟧."""
    text = Text()
    for row in rows:
        cut = ", cut at the length limit" if row.truncated else ""
        text.append(
            f"{row.row_id}: {row.trained} of {row.tokens} tokens are trained{cut}\n", "bold"
        )
        for segment in row.segments:
            if segment.trained:
                text.append(f"⟦{segment.text}⟧", "green")
            else:
                text.append(segment.text, "dim")
        text.append("\n\n")
    return text

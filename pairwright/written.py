"""Numbers and texts as a reader of the report sees them."""

import json
import re
from typing import Any

_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Not the joiners, which emoji and many scripts are written with."""
_CONTROL_PICTURES = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
}


def signed(value: float | None, digits: int = 2) -> str:
    """The value with its sign and a true minus; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}".replace("-", "−")


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def compact_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def literal(text: str) -> str:
    """The text with every character to be seen: controls as pictures, invisible ones by number."""
    return _INVISIBLE.sub(
        lambda match: f"⟨U+{ord(match[0]):04X}⟩", text.translate(_CONTROL_PICTURES)
    )

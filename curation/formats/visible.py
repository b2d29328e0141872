"""What a reader sees of a text: whether anything, and where it begins and ends."""

import unicodedata

_UNSEEN = {"Cc", "Cf", "Zs", "Zl", "Zp"}
"""Unicode categories that show nothing: controls, zero-width and other format signs, spaces."""

_MARKS = {"Mn", "Me"}
"""Categories that show only on the character before them: accents, variation selectors."""

_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and a symbol that fonts leave blank: Hangul fillers, the Braille cell without dots."""


def is_visible(text: str) -> bool:
    """Whether any character of the text shows by itself."""
    return any(
        not _is_unseen(character) and unicodedata.category(character) not in _MARKS
        for character in text
    )


def without_unseen_ends(text: str) -> str:
    """The text from its first to its last character that is neither white space nor unseen."""
    start, end = 0, len(text)
    while start < end and _is_unseen(text[start]):
        start += 1
    while end > start and _is_unseen(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or character in _BLANKS

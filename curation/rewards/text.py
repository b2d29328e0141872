"""Words and sentences of a text, counted alike by every rule."""

import re

from curation.languages import UNSPACED

_BLOCK = re.compile(r"\n\s*\n|\n(?=[ \t]*(?:[-*+•]|\d+[.)])[ \t])")
"""A blank line or a new list item ends a sentence, with or without a full stop."""

_STOP = re.compile(r"([.!?…]+)[\"'”’)\]*_]*(?=\s|$)|([。！？]+)[”’」』）]*")

_NEVER_LAST = re.compile(
    r"mr|mrs|ms|mx|dr|prof|rev|hon|gen|st|vs|e\.g|i\.e|cf|fig|approx|(?-i:[A-HJ-Z])", re.IGNORECASE
)
"""Abbreviations that a word always follows, and initials."""

_SELDOM_LAST = re.compile(r"etc|inc|ltd|co|corp|jr|sr|dept|est|ave|\w(?:\.\w)+", re.IGNORECASE)
"""Abbreviations that end a sentence only where a capital letter follows."""


_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def words_or_characters(text: str) -> list[str]:
    """The words; in a script that is written without spaces, as Chinese and Thai are, each
    character counts as one."""
    return _WORD.findall(text)


def words(text: str) -> list[str]:
    """The runs of letters, digits and underscores, as IFEval counts words."""
    return re.findall(r"\w+", text)


def sentences(text: str) -> list[str]:
    """The sentences: they end at . ! ? … or 。！？, at a blank line and before a list item.

    Full stops of abbreviations, initials, list numbers and decimals end nothing; a piece without a
    letter or digit is none.
    """
    found = []
    for block in _BLOCK.split(text):
        start = 0
        for stop in _STOP.finditer(block):
            if _ends(block[start : stop.start()], stop):
                found.append(block[start : stop.end()])
                start = stop.end()
        found.append(block[start:])
    return [piece.strip() for piece in found if re.search(r"\w", piece)]


def _ends(before: str, stop: re.Match[str]) -> bool:
    following = stop.string[stop.end() : stop.end() + 9].lstrip()[:1]
    if stop.group(1) in ("…", "...") and following.islower():
        return False
    if stop.group(1) != "." or not following:
        return True
    last = (before.split() or [""])[-1].lstrip("\"'“‘(*_")
    if last.isdecimal() and before.strip() == last:
        return False
    if _NEVER_LAST.fullmatch(last):
        return False
    return following.isupper() if _SELDOM_LAST.fullmatch(last) else True

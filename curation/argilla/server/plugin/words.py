"""Text and what a person types in the search box, as words of the full-text index.

The index (SQLite FTS5, unicode61) folds case and keeps diacritics, as the standard analyzer of
OpenSearch does. Two things it cannot do are done here, to texts and queries alike: scripts that
write no spaces become one word a character, so that any part of a sentence is found as a phrase;
and pictographs, which it would skip, become words.
"""

import json
import re
import unicodedata
from functools import lru_cache

TEXT_COLUMNS = 16
"""Columns of the index; the fields of a dataset beyond them share the last one."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Japanese syllables and marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_PICTURES = "\u00a9\u00ae\u2100-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_ALONE = re.compile(f"([{_UNSPACED}])|([{_PICTURES}])")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TOKENS = re.compile(r'(-*)"([^"]*)"(\*?)(?:~\d*)?|([()|])|([^\s()|"]+)|"')
_DEEPEST = 16
_MOST_WORDS = 64


def split_words(text: str) -> str:
    """The text with a space round every character that is a word of its own."""
    return _ALONE.sub(_stand_alone, _UNSTORABLE.sub(" ", text))


def _stand_alone(found: re.Match[str]) -> str:
    letter, picture = found.groups()
    return f" {letter} " if letter else f" u{ord(picture):x} "


@lru_cache(maxsize=32)
def column_texts(fields: str, names: str) -> tuple[str | None, ...]:
    """The words of each column for a record: its fields (JSON) in the order of the names (JSON)."""
    values = json.loads(fields or "{}")
    columns: list[str | None] = [None] * TEXT_COLUMNS
    for position, name in enumerate(json.loads(names)):
        words = split_words("\n".join(_strings(values.get(name))))
        column = min(position, TEXT_COLUMNS - 1)
        columns[column] = f"{columns[column]}\n{words}" if columns[column] else words or None
    return tuple(columns)


def _strings(value: object) -> list[str]:
    """The texts in a field: itself, the contents of a chat, the values of a custom field."""
    if isinstance(value, str):
        return [] if value.startswith("data:") else [value]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    if isinstance(value, dict):
        said = [value["content"]] if value.keys() == {"role", "content"} else value.values()
        return [text for item in said for text in _strings(item)]
    return [] if value is None else [str(value)]


def fts_query(typed: str, dataset: str, *, column: int | None = None) -> str | None:
    """The FTS5 expression that finds the typed text in the dataset; None where no word was typed.

    Words must all occur; `|` is or, `-` before a word or phrase is not, "..." a phrase, `*` at the
    end of a word any ending, parentheses group; every other sign only separates words. `*` alone
    finds everything. Nothing that can be typed is an error.
    """
    every = f'dataset : "{dataset}"'
    if typed.strip() == "*":
        return every
    where = "- dataset" if column is None else f"f{column}"
    tree = _Parser(_UNSTORABLE.sub(" ", typed), where, every).parse()
    return f"{every} AND ({tree})" if tree else None


class _Parser:
    """Recursive descent over the tokens; each rule gives an FTS5 expression or None."""

    def __init__(self, typed: str, where: str, every: str) -> None:
        self._tokens = list(_TOKENS.finditer(typed))
        self._where = where
        self._every = every
        self._at = 0
        self._words = 0

    def parse(self) -> str | None:
        parts = []
        while self._at < len(self._tokens):
            parts.append(self._either(0))
            self._at += 1  # past a closing parenthesis that nothing opened
        return self._all([part for part in parts if part], [])

    def _either(self, depth: int) -> str | None:
        """`a b | c d`, up to the closing parenthesis or the end."""
        groups: list[str | None] = []
        wanted: list[str] = []
        unwanted: list[str] = []
        while self._at < len(self._tokens) and (sign := self._tokens[self._at][4]) != ")":
            self._at += 1
            if sign == "|":
                groups.append(self._all(wanted, unwanted))
                wanted, unwanted = [], []
            elif sign == "(":
                if depth < _DEEPEST:
                    inner = self._either(depth + 1)
                    self._at += 1
                    wanted += [inner] if inner else []
            else:
                minus, term = self._term(self._tokens[self._at - 1])
                if term:
                    (unwanted if minus else wanted).append(term)
        groups.append(self._all(wanted, unwanted))
        found = [group for group in groups if group]
        if len(found) > 1:
            return f"({' OR '.join(found)})"
        return found[0] if found else None

    def _all(self, wanted: list[str], unwanted: list[str]) -> str | None:
        if not wanted and not unwanted:
            return None
        among = f"({' AND '.join(wanted)})" if wanted else self._every
        return f"({among} NOT ({' OR '.join(unwanted)}))" if unwanted else among

    def _term(self, token: re.Match[str]) -> tuple[bool, str | None]:
        minuses, phrase, star, _, word = token.groups()
        if phrase is None:
            word = re.sub(r"~\d*$", "", word or "")
            bare = word.lstrip("-+")
            minuses = "-" if word[: len(word) - len(bare)].endswith("-") else ""
            phrase, star = bare.rstrip("*"), "*" if bare.endswith("*") else ""
        if not _has_word(phrase) or self._words >= _MOST_WORDS:
            return False, None
        self._words += 1
        words = split_words(phrase).replace('"', " ")
        return bool(minuses), f'{self._where} : "{words}"{" *" if star else ""}'


def _has_word(text: str) -> bool:
    """Whether the index would see a word in the text."""
    return any(unicodedata.category(letter)[0] in "LNM" for letter in split_words(text))

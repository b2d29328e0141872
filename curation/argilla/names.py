"""Names as the labelling server takes them, made from the titles that people write."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from schemas.records import content_hash

MAX_NAME = 100
OWN_QUESTIONS = ("overall", "strength", "reason")
FOLLOW_UP = "follow-up-"
"""Begins the name of a workspace for one person's follow-ups; the person's name goes on."""
ADJUDICATION = "adjudication"
"""Ends the name of the adjudicators' dataset, and with a hyphen begins their workspaces'."""


def slug(title: str, *, what: str, separator: str = "-") -> str:
    """The title in lower case, with what is neither letter, digit, `-` nor `_` as the separator.

    Letters beyond ASCII lose their marks. Where others are left out, its hash tells the title
    apart: `标注 v1` and `偏好 v1` are two.

    Raises:
        ValueError: the title is empty, too long or begins like an option.
    """
    title = unicodedata.normalize("NFC", title).strip()
    if not title or title.startswith("-"):
        raise ValueError(f"{what} '{title}' is no name; expected one that begins with a letter")
    if len(title) > MAX_NAME:
        raise ValueError(f"{what} '{title[:40]}...' is longer than {MAX_NAME} characters")
    bare = unicodedata.normalize("NFKD", title.lower())
    name = re.sub(r"[^a-z0-9_-]+", separator, bare.encode("ascii", "ignore").decode()).strip("-_")
    if name and not any(letter.isalnum() for letter in bare if not letter.isascii()):
        return name
    return f"{name or what.split()[-1]}{separator}{content_hash(title)[:8]}"


def dataset_name(title: str, *, ranked: int | None = None, suffix: str = "") -> str:
    """A dataset's name in the server: `My Prefs v1` is `my-prefs-v1`.

    A ranking of 3 adds `-rank-3`, as the options of a dataset are fixed; the suffix goes last.
    """
    rank = f"-rank-{ranked}" if ranked else ""
    return slug(title, what="dataset") + rank + (f"-{suffix}" if suffix else "")


def question_names(criteria: Sequence[str]) -> dict[str, str]:
    """The criteria as the names of their questions, each with its title.

    Raises:
        ValueError: two criteria have one name, or one has the name of a question of ours.
    """
    names: dict[str, str] = {}
    for title in criteria:
        name = slug(title, what="criterion", separator="_")
        if name in OWN_QUESTIONS:
            raise ValueError(f"criterion '{title}' has the name of a question asked anyway")
        if name in names:
            raise ValueError(f"criteria '{names[name]}' and '{title}' have one name, '{name}'")
        names[name] = title
    return names


def check_account_names(names: Iterable[str], *, what: str) -> None:
    """Nothing, where each name may be a user's or a workspace's.

    Raises:
        ValueError: the names that may not, all of them.
    """
    bad = sorted({name for name in names if not _is_account_name(name)})
    if bad:
        listed = ", ".join(ascii(name) for name in bad)
        raise ValueError(
            f"{what} {listed}: expected up to {MAX_NAME} printable characters without slash or "
            "space at the ends, beginning with neither '-' nor 'user:' nor 'deleted:'"
        )


def _is_account_name(name: str) -> bool:
    return (
        0 < len(name) <= MAX_NAME
        and name.isprintable()
        and name == name.strip()
        # The last two stand for people whom the server no longer knows.
        and not name.startswith(("-", ".", "user:", "deleted:"))
        and not set(name) & set("/\\")
    )

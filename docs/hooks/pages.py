"""What the site changes in the pages: parts made from the code, links that lead outside docs/, and
marks that only the tests read."""

import re
from pathlib import Path
from typing import Any

# mkdocs lets a hook import what lies beside it.
from keys import config_keys
from verbs import verbs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_PART = re.compile(r"^<!-- made from (?P<what>[\w. -]+) -->$", re.MULTILINE)
_FENCE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_UNTESTED = re.compile(r"(?<=  # )untested: ")
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<path>[^)#\s:]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with its made parts in place, no link out of the site, and no mark for the tests."""
    folder = (DOCS / page.file.src_uri).parent
    whole = _PART.sub(lambda found: made(found["what"]), markdown)
    return _UNTESTED.sub("", without_outer_links(whole, folder))


def made(what: str) -> str:
    """The part of a page that is made from the command line, the config or a file of the root."""
    if what == "the command line":
        return verbs()
    return config_keys() if what == "the config" else _root_page(what)


def _root_page(name: str) -> str:
    """The text of a file of the root, its links turned to where docs/ stands."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return text.partition("\n")[2].replace("](docs/", "](")


def without_outer_links(markdown: str, folder: Path) -> str:
    """The page with links to code and to folders as plain text.

    A link to what does not exist stays, so that the strict build refuses it.
    """

    def plain(found: re.Match[str]) -> str:
        target = (folder / found["path"]).resolve()
        outside = DOCS not in target.parents
        return found["text"] if target.exists() and (outside or target.is_dir()) else found[0]

    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(plain, part) for part in parts[::2]]
    return "".join(parts)

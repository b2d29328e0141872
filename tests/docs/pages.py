"""The code blocks of the documentation's pages, and what each of them asks of the tests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?: +title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_UNTESTED = re.compile(r" +# untested: (?P<reason>.+)$")
_BESIDE = re.compile(r" +# in a terminal of its own$")
_EXIT = re.compile(r" +# exit (?P<code>\d)$")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str | None
    """The file that the block is; None where it is none."""
    body: str


class Command(NamedTuple):
    """A command line as a page shows it, without the marks that the tests read."""

    line: str
    code: int = 0
    way: Literal["run", "beside", "untested"] = "run"
    reason: str = ""


def pages() -> list[Path]:
    """The pages of the site and the README, those first that others stand on."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    first = ROOT / "docs" / "quickstart.md"
    return [first, *(page for page in found if page != first), ROOT / "README.md"]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["title"],
            re.sub(rf"^{found['indent']}", "", found["body"], flags=re.MULTILINE),
        )
        for found in _BLOCK.finditer(text)
    ]


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block; a line that ends with a backslash goes on in the next."""
    for line in block.body.replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        untested, beside, ended = (mark.search(line) for mark in (_UNTESTED, _BESIDE, _EXIT))
        if untested:
            yield Command(line[: untested.start()], way="untested", reason=untested["reason"])
        elif beside:
            yield Command(line[: beside.start()], way="beside")
        elif ended:
            yield Command(line[: ended.start()], code=int(ended["code"]))
        else:
            yield Command(line)

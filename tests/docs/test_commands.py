"""Every command, config and snippet of the documentation does what it says, as it is written."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, commands, pages
from tests.docs.sandbox import Sandbox, put_model, put_server

QUICKSTART, *OTHERS = [
    page
    for page in pages()
    if any(block.language in ("sh", "python", "yaml") for block in blocks(page))
]
KNOWN = ("sh", "python", "yaml", "json", "jinja", "csv", "markdown", "text", "")
MOST_UNTESTED = 14
COMMANDS = ("pairwright", "make", "pip", "torchrun", "python", "accelerate")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a tiny model as the bundled one, and this machine's Argilla server."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("cache")
    put_model(folder)
    put_server(folder)
    return folder


@pytest.fixture(scope="session")
def after_quickstart(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A reader's folder after the quickstart, which all other pages go on from."""
    sandbox = Sandbox.new(tmp_path_factory.mktemp("quickstart") / "folder", cache)
    sandbox.follow(QUICKSTART)
    return sandbox


def test_the_quickstart_ends_with_a_report(after_quickstart: Sandbox) -> None:
    assert (after_quickstart.folder / "runs/first/report.html").is_file()


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_what_it_says(
    page: Path, after_quickstart: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    after_quickstart.copy(tmp_path_factory.mktemp("page") / "folder").follow(page)


def test_few_commands_are_not_run_and_each_says_why() -> None:
    untested = [
        (command.line.strip(), command.reason)
        for page in pages()
        for block in blocks(page)
        if block.language == "sh"
        for command in commands(block)
        if command.way == "untested"
    ]
    for line, reason in untested:
        print(f"not run: {line}: {reason}")
        assert len(reason) > 5
    assert len(untested) <= MOST_UNTESTED


def test_no_command_hides_in_a_block_that_nobody_runs() -> None:
    for page in pages():
        for block in blocks(page):
            assert block.language in KNOWN, f"{page}:{block.line}: {block.language}"
            first = block.body.split(maxsplit=1)[0] if block.body.strip() else ""
            hidden = first in COMMANDS and block.language in ("", "text")
            assert not hidden, f"{page}:{block.line}: mark the block as `sh`, so that it is run"

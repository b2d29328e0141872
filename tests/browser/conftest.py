"""A live labelling server and a browser for the tests of the labelling page."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from curation.argilla.server.background import start_background
from curation.argilla.server.environment import ensure_environment
from curation.argilla.server.stack import Started
from tests.browser.page import CHROMIUMS, LabellingPage, chromium, chromium_path
from tests.browser.people import MakeDesk
from tests.curation.argilla.desk import Desk


@pytest.fixture(scope="session")
def chromium_binary() -> str:
    path = chromium_path()
    if path is None:
        pytest.skip(f"needs the system's Chromium; none of {', '.join(CHROMIUMS)} is installed")
    return path


@pytest.fixture(scope="session")
def labelling_server(
    chromium_binary: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    try:
        ensure_environment(print)
    except OSError as error:
        pytest.skip(f"no Argilla server on this machine: {error}")
    with start_background(tmp_path_factory.mktemp("argilla") / "home") as server:
        yield server


# Not for the session: while a browser is open, this thread counts as running an event loop, and
# other tests may want one.
@pytest.fixture(scope="module")
def browser(chromium_binary: str) -> Iterator[Browser]:
    with chromium(chromium_binary) as opened:
        yield opened


@pytest.fixture(scope="module")
def seats(browser: Browser, labelling_server: Started) -> Iterator[list[LabellingPage]]:
    """Windows that tests use one after the other, so that each finds the page in the cache."""
    pages = [LabellingPage(browser, labelling_server.url) for _ in range(2)]
    yield pages
    for page in pages:
        page.close()


@pytest.fixture
def window(
    browser: Browser, labelling_server: Started, seats: list[LabellingPage]
) -> Iterator[Callable[..., LabellingPage]]:
    """Gives somebody a window; afterwards no request has left the server and no dialog opened."""
    free = list(seats)
    used: list[LabellingPage] = []

    def open_window(**options: Any) -> LabellingPage:
        page = LabellingPage(browser, labelling_server.url, **options) if options else free.pop()
        page.sent.clear()
        used.append(page)
        return page

    yield open_window
    for page in used:
        if page not in seats:
            page.close()
    assert [(page.strays, page.dialogs) for page in used] == [([], [])] * len(used)


@pytest.fixture
def make_desk(labelling_server: Started, tmp_path: Path) -> MakeDesk:
    """Makes a dataset in a workspace of its own, by default for ann alone."""

    def make(people: Sequence[str] = ("ann",), **settings: Any) -> Desk:
        settings = {"overlap": 1, **settings}
        return Desk(labelling_server.url, labelling_server.api_key, tmp_path, people, **settings)

    return make

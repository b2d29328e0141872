"""A live Argilla for the tests that need one: started once a test process, gone with it."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from curation.argilla.server.accounts import WORKSPACE, call
from curation.argilla.server.background import start_background
from curation.argilla.server.environment import ensure_environment
from curation.argilla.server.stack import Started

Call = Callable[..., Any]
"""`call(method, path, body=None)`: the JSON that a route answers this user with."""


@pytest.fixture(scope="session")
def argilla_installed() -> None:
    """The server's environment; made here if need be, which takes a minute and a package index."""
    try:
        ensure_environment(print)
    except OSError as error:
        pytest.skip(f"no Argilla server on this machine: {error}")


@pytest.fixture(scope="session")
def argilla_server(
    argilla_installed: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    """A server with an owner and the annotators ann and bob, all with passwords and keys."""
    home = tmp_path_factory.mktemp("argilla") / "home"
    with start_background(home, annotators=["ann", "bob"]) as server:
        yield server


@pytest.fixture(scope="session")
def owner(argilla_server: Started) -> Call:
    """Calls the API as the owner."""
    return calls_as(argilla_server, "owner")


@pytest.fixture(scope="session")
def ann(argilla_server: Started) -> Call:
    """Calls the API as the annotator ann."""
    return calls_as(argilla_server, "ann")


def calls_as(server: Started, username: str) -> Call:
    key = next(account.api_key for account in server.accounts if account.username == username)
    return lambda method, path, body=None: call(server.url, key, method, path, body)


@pytest.fixture(scope="session")
def make_dataset(owner: Call) -> Callable[..., str]:
    """`make_dataset(name, fields, ...)`: the id of a published dataset whose name begins so.

    It asks one question, `overall`, with the answers a, b and tie.
    """

    def make(
        name: str,
        fields: Sequence[tuple[str, str]] = (("prompt", "text"),),
        metadata: Sequence[tuple[str, str]] = (),
        min_submitted: int = 1,
        vectors: Sequence[str] = (),
    ) -> str:
        spaces = owner("GET", "/me/workspaces")["items"]
        workspace = next(space["id"] for space in spaces if space["name"] == WORKSPACE)
        overlap = {"strategy": "overlap", "min_submitted": min_submitted}
        unique = f"{name} {uuid4().hex[:8]}"  # a module's fixtures may be made twice
        asked = {"name": unique, "workspace_id": workspace, "distribution": overlap}
        dataset: str = owner("POST", "/datasets", asked)["id"]
        here = f"/datasets/{dataset}"
        for field, kind in fields:
            settings: dict[str, Any] = {"type": kind}
            settings |= {"template": "<p></p>", "advanced_mode": False} if kind == "custom" else {}
            settings |= {"use_markdown": False} if kind in {"text", "chat"} else {}
            owner("POST", f"{here}/fields", {"name": field, "title": field, "settings": settings})
        options = [{"value": value, "text": value} for value in ("a", "b", "tie")]
        settings = {"type": "label_selection", "options": options, "visible_options": None}
        question = {"name": "overall", "title": "Overall", "required": True, "settings": settings}
        owner("POST", f"{here}/questions", question)
        for prop, kind in metadata:
            asked = {"name": prop, "title": prop, "settings": {"type": kind}}
            owner("POST", f"{here}/metadata-properties", asked)
        for space in vectors:
            owner(
                "POST", f"{here}/vectors-settings", {"name": space, "title": space, "dimensions": 2}
            )
        owner("PUT", f"{here}/publish")
        return dataset

    return make


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """`eventually(value, expected)`: returns once value() is the expected one; fails after 10 s."""

    def wait(value: Callable[[], object], expected: object) -> None:
        until = time.monotonic() + 10
        while (found := value()) != expected:
            assert time.monotonic() < until, f"still {found!r} after 10 s, expected {expected!r}"
            time.sleep(0.05)

    return wait

"""Accounts are made once, with passwords that work, and never more rights than an annotator's."""

import uuid
from typing import Any

import httpx
import pytest

from curation.argilla.accounts import ensure_annotators, ensure_workspaces, workspace_ids
from curation.argilla.client import Client
from schemas.configs import LabelConfig, WorkspaceConfig


@pytest.fixture
def client(argilla_server: Any) -> Client:
    return Client(argilla_server.url, argilla_server.api_key)


def config(**groups: tuple[str, ...]) -> LabelConfig:
    workspaces = {name: WorkspaceConfig(annotators=people) for name, people in groups.items()}
    return LabelConfig(dataset="d", workspaces=workspaces, overlap=1)


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def token(client: Client, name: str, password: str) -> httpx.Response:
    form = {"username": name, "password": password}
    return httpx.post(f"{client.url}/api/v1/token", data=form)


def test_new_accounts_get_passwords_that_work_and_old_ones_keep_theirs(client: Client) -> None:
    ann, bob = fresh("ann"), fresh("bob@example.org")
    first = ensure_annotators(client, config(**{fresh("one"): (ann,)}))
    second = ensure_annotators(client, config(**{fresh("two"): (ann, bob)}))
    assert (set(first), set(second)) == ({ann}, {bob})
    assert len(first[ann]) >= 12
    assert token(client, ann, first[ann]).status_code == 201
    assert token(client, bob, second[bob]).status_code == 201
    assert token(client, ann, "wrong password").status_code == 401


def test_done_again_it_changes_nothing(client: Client) -> None:
    asked = config(**{fresh("team"): (fresh("ann"), fresh("bob"))})
    assert len(ensure_annotators(client, asked)) == 2
    assert ensure_annotators(client, asked) == {}
    assert set(workspace_ids(client, asked)) == set(asked.workspaces)


def test_an_annotator_may_not_do_what_the_owner_does(client: Client) -> None:
    name = fresh("ann")
    ensure_annotators(client, config(**{fresh("team"): (name,)}))
    (user,) = [user for user in client.get("/users")["items"] if user["username"] == name]
    assert user["role"] == "annotator"
    as_ann = Client(client.url, user["api_key"])
    with pytest.raises(PermissionError):
        as_ann.get("/users")
    with pytest.raises(PermissionError):
        as_ann.post("/workspaces", {"name": fresh("mine")})
    account = {"username": fresh("me"), "first_name": "x", "password": "long enough"}
    with pytest.raises(PermissionError):
        as_ann.post("/users", account)
    # Others' workspaces are not there for her at all.
    assert set(as_ann.workspaces()) < set(client.workspaces())


def test_names_that_could_be_paths_are_refused_before_anything_is_made(client: Client) -> None:
    before = (client.users(), client.workspaces())
    for asked in (
        config(**{fresh("team"): ("../../owner",)}),
        config(**{"../up": (fresh("ann"),)}),
    ):
        with pytest.raises(ValueError, match="printable characters without slash"):
            ensure_annotators(client, asked)
    assert (client.users(), client.workspaces()) == before


def test_everybody_who_is_missing_is_in_one_error(client: Client) -> None:
    here, team, other = fresh("here"), fresh("team"), fresh("other")
    ensure_annotators(client, config(**{team: (here,)}))
    asked = config(**{team: (here, "ghost-1"), other: ("ghost-2", here)})
    with pytest.raises(ValueError, match="lacks") as raised:
        workspace_ids(client, asked)
    message = str(raised.value)
    assert all(name in message for name in (f"workspace '{other}'", "'ghost-1'", "'ghost-2'"))
    assert f"annotator '{here}'" not in message


def test_workspaces_are_made_for_people_who_have_accounts_and_for_no_others(
    client: Client,
) -> None:
    here, team, mine = fresh("here"), fresh("team"), fresh("follow-up")
    ensure_annotators(client, config(**{team: (here,)}))
    with pytest.raises(ValueError, match="lacks annotator 'ghost-1', annotator 'ghost-2'"):
        ensure_workspaces(client, config(**{mine: (here, "ghost-1", "ghost-2")}))
    assert mine not in client.workspaces()
    ensure_workspaces(client, config(**{mine: (here,)}))
    assert set(workspace_ids(client, config(**{mine: (here,)}))) == {mine}


def test_an_annotator_outside_the_workspace_is_missing(client: Client) -> None:
    inside, outside, team = fresh("in"), fresh("out"), fresh("team")
    ensure_annotators(client, config(**{team: (inside,), fresh("else"): (outside,)}))
    with pytest.raises(ValueError, match=f"annotator '{outside}' in workspace '{team}'"):
        workspace_ids(client, config(**{team: (inside, outside)}))

"""Accounts of the embedded server, made over its API; passwords are shown once and never kept."""

import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

WORKSPACE = "pairwright"


class Account(NamedTuple):
    """Somebody who can sign in; the password is known only where the account was just made."""

    username: str
    role: str
    password: str | None
    api_key: str


def new_password() -> str:
    return secrets.token_urlsafe(12)


def ensure_accounts(
    url: str, owner_key: str, annotators: Sequence[str], *, workspace: str = WORKSPACE
) -> list[Account]:
    """The annotators' accounts, made where they are missing, each a member of the workspace."""
    found = {space["name"]: space["id"] for space in _items(url, owner_key, "/me/workspaces")}
    space = found.get(workspace)
    if space is None:
        space = call(url, owner_key, "POST", "/workspaces", {"name": workspace})["id"]
    users = {user["username"]: user for user in _items(url, owner_key, "/users")}
    members = {user["id"] for user in _items(url, owner_key, f"/workspaces/{space}/users")}
    accounts = []
    for name in annotators:
        user, password = users.get(name), None
        if user is None:
            password = new_password()
            asked = {
                "first_name": name,
                "username": name,
                "role": "annotator",
                "password": password,
            }
            user = call(url, owner_key, "POST", "/users", asked)
        if user["id"] not in members:
            call(url, owner_key, "POST", f"/workspaces/{space}/users", {"user_id": user["id"]})
        accounts.append(Account(name, user["role"], password, user["api_key"]))
    return accounts


def reset_password(url: str, owner_key: str, username: str) -> Account:
    """The account with a new password, for somebody who lost theirs."""
    users = {user["username"]: user for user in _items(url, owner_key, "/users")}
    if username not in users:
        raise ValueError(
            f"no account is called '{username}' on this server; there are: "
            f"{', '.join(sorted(users))}"
        )
    user, password = users[username], new_password()
    call(url, owner_key, "PATCH", f"/users/{user['id']}", {"password": password})
    return Account(username, user["role"], password, user["api_key"])


def call(
    url: str, key: str, method: str, path: str, body: object = None, *, timeout: float = 30
) -> Any:
    """The JSON that a route of the server answers with.

    Raises:
        OSError: the server cannot be reached or refuses, in one sentence without the key.
    """
    request = urllib.request.Request(
        f"{url}/api/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Argilla-Api-Key": key, "Content-Type": "application/json"},
    )
    try:
        with _direct.open(request, timeout=timeout) as response:
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        detail = error.read().decode(errors="replace")[:300]
        raise OSError(f"{method} {path} at {url} was refused ({error.code}): {detail}") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"{method} {path} at {url} got no answer: {reason}") from None


def _items(url: str, key: str, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = call(url, key, "GET", path)["items"]
    return items


# A proxy of the environment has no business with a server on this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
